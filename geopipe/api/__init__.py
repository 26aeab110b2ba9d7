"""The public interface for Python: thin functions over what the command line runs too.

Importing this package, or using any name of `geopipe` that lives here, registers the accessor
``DataArray.geopipe``.
"""

from geopipe.api import accessor as _accessor  # noqa: F401 (registers it)
