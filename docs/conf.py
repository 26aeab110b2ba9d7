"""Settings of the site that `make docs` builds with Sphinx."""

from geopipe import __version__

project = "geopipe"
author = "the geopipe authors"
copyright = "the geopipe authors"  # noqa: A001 (the name that Sphinx reads)
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The sources are those of the whole repository, so that links between README.md and docs/ are
# checked and work in the site too.
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "sample_tiles/*.md", "workflows/*.md"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"geopipe {version}"
html_show_sphinx = False
templates_path = ["_templates"]
html_additional_pages = {"index": "start.html"}

myst_heading_anchors = 3  # links such as patches.md#transfer
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"  # docstrings write names in single backticks
autodoc_typehints = "description"
autodoc_member_order = "groupwise"
