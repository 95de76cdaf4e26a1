"""Small pieces of HTML. Every text that comes from a run goes through `safe`."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite

import streamlit as st

from app.shell.public import without_places

_MINUS, _TIED = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def safe(text: object) -> str:
    """`text` as it may stand in HTML: class names, run names and errors come from files that anybody can write."""
    return escape(re.sub(r"(?<=\d) (?=%)", _TIED, without_places(text)), quote=True)  # a sign never begins a line


def markdown(text: object) -> str:
    """`text` inside a heading, which Streamlit reads as Markdown: every mark that could mean something is escaped."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|~$:<>&" else c for c in without_places(text))


def show(body: str, kind: str = "") -> None:
    """Put a fragment of HTML on the page inside our own scope."""
    st.html(f'<div class="ci {kind}">{body}</div>')


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as the screen shows it."""
    return "\N{EN DASH}" if value is None or not isfinite(value) else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number with a few significant digits; a dash where there is none."""
    return "\N{EN DASH}" if value is None or not isfinite(value) else f"{value:.{digits}g}".replace("-", _MINUS)


def signed(now: float | None, before: float | None) -> str:
    """The change of a fraction in points, with its sign; empty when there is nothing to compare with."""
    if now is None or before is None or not (isfinite(now) and isfinite(before)):
        return ""
    return f"{100 * (now - before):+.1f}".replace("-", _MINUS)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def facts(rows: Iterable[tuple[str, str, str]], kind: str = "") -> str:
    """A grid of labelled numbers: (label, value, small print)."""
    cells = "".join(
        f"<div><dt>{safe(label)}</dt><dd>{safe(value)}{f'<small>{safe(note)}</small>' if note else ''}</dd></div>"
        for label, value, note in rows
    )
    return f'<dl class="ci-facts {kind}">{cells}</dl>'


def note(text: str, *more: str) -> None:
    """A quiet line under a figure or a control; what one must know to read it unfolds."""
    show(f"<p>{safe(text)}</p>{_unfolding('How to read this', more)}", "ci-note")


def aside(text: str, *reasons: str) -> None:
    """A line that matters to few, and unfolds into its reasons."""
    show(_unfolding(text, reasons), "ci-note")


def _unfolding(title: str, lines: Sequence[str]) -> str:
    body = "".join(f"<p>{safe(line)}</p>" for line in lines)
    return f"<details><summary>{safe(title)}</summary>{body}</details>" if lines else ""


def _cell(value: object) -> str:
    short = ' class="short"' if len(str(value)) <= 12 else ""  # `not seen yet` is not to be broken
    return f"<td{short}>{safe(value)}</td>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], label: str, kind: str = "") -> None:
    """A small table with a name for those who cannot see it."""
    first = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    show(
        f'<table aria-label="{safe(label)}"><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>',
        f"ci-grid {kind}",
    )


def empty(title: str, text: str) -> None:
    """An honest empty state: what is not here, why, and what would bring it."""
    show(f'<p class="title">{safe(title)}</p><p>{safe(text)}</p>', "ci-empty")  # no heading: it opens no section


def refused(title: str, body: str) -> None:
    """What was asked and will not be done, and why; `body` is HTML."""
    show(f'<p class="title">{safe(title)}</p>{body}', "ci-refused")


def heading(title: str, text: str = "") -> None:
    """Title of a page and one line that says what the page is for."""
    st.title(title, anchor=False)
    if text:
        show(f"<p>{safe(text)}</p>", "ci-lede")


def section(title: str, key: str, help: str | None = None) -> None:
    """The heading of a figure or table: right below the title of the page in rank, small in type."""
    with st.container(key=f"section-{key}"):
        st.header(title, anchor=False, help=help)


def bars(values: Sequence[float | None], colours: Sequence[str], label: str) -> str:
    """One small bar per task on a fixed scale from 0 to 1."""
    shown = [0.0 if v is None or not isfinite(v) else v for v in values]
    cells = "".join(
        f'<i style="height:{100 * v:.1f}%;background:{c}"></i>' for v, c in zip(shown, colours, strict=True)
    )
    many = " many" if len(shown) > 30 else ""
    return f'<div class="ci-bars{many}" role="img" aria-label="{safe(label)}">{cells}</div>' if shown else ""
