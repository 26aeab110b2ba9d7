"""Facts about an object as text and as an escaped HTML table, for ``repr`` and notebooks."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Facts = Sequence[tuple[str, str]]
"""(name, value) pairs, in the order in which they are shown."""


def as_text(title: str, facts: Facts) -> str:
    """``<title>`` and a line per fact."""
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join([f"<{title}>", *(f"  {name:{width}s}  {value}" for name, value in facts)])


def as_html(title: str, facts: Facts) -> str:
    """A titled table of two columns; all text is escaped."""
    cell = Markup('<tr><th style="text-align:left">{}</th><td style="text-align:left">{}</td></tr>')
    return str(
        Markup("<div><strong>{}</strong><table>{}</table></div>").format(
            title, Markup("").join(cell.format(escape(n), escape(v)) for n, v in facts)
        )
    )


def listed(values: Iterable[object]) -> str:
    """Values with commas between them."""
    return ", ".join(map(str, values))
