"""Words of the glossary on the pages: each quantity that a figure shows, in one line."""

from cillab import glossary

BETTER = {"lower": "lower is better", "higher": "higher is better", "neither": "neither way is better"}


def line(key: str) -> str:
    """One quantity in one line, for a tooltip: name, what it is, which way is better. Markdown, marks escaped.

    Raises:
        KeyError: the glossary has no such quantity.
    """
    one = glossary.entry(key)
    return f"**{_escaped(one.name)}**: {_escaped(one.summary)} {_escaped(_sentence(BETTER[one.better]))}"


def tip(figure: str) -> str | None:
    """The tooltip of a figure: a line for each quantity it shows, or None."""
    from cillab.figures import named  # noqa: PLC0415 (plotly: not before the map is on screen)

    return "\n\n".join(map(line, named(figure).quantities[:6])) or None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    """Formulas are full of marks that Markdown would read."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>$~|#:" else c for c in text)
