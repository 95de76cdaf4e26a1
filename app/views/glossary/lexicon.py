"""The pieces of the Glossary page: search, one entry, and the link to where it is shown."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple
from urllib.parse import urlencode

import streamlit as st

from app.shell import html, state, ways
from cillab import glossary
from cillab.glossary import Entry

_ALL = "all"
_ARROWS = {"lower": "\N{DOWNWARDS ARROW} lower is better", "higher": "\N{UPWARDS ARROW} higher is better",
           "neither": "neither way is better"}  # fmt: skip


class Place(NamedTuple):
    """A page on which a quantity can be seen, and the query that opens the right part of it (by its label)."""

    page: str
    label: str
    query: dict[str, str]


def matches(entry: Entry, words: str) -> bool:
    """Does every word of the search occur somewhere in the entry?"""
    text = " ".join(
        (entry.key, entry.name, entry.symbol, entry.summary, entry.formula, entry.meaning, entry.source, entry.section,
         entry.small_samples, *entry.series)
    ).lower()  # fmt: skip
    return all(word in text for word in words.lower().split())


def search() -> Sequence[Entry]:
    """The controls; returns the entries they leave. `?term=` (a key or the name of a series) asks for a single one."""
    everything = glossary.entries()
    sections = list(dict.fromkeys(entry.section for entry in everything))
    wanted = _term()
    with st.container(key="choices"):
        left, right = st.columns([1.4, 1], gap="medium", vertical_alignment="bottom")
    with left:
        words = st.text_input(
            "Search", key="search", type="search", placeholder="NC1, drift, Procrustes, 2020 …", max_chars=80,
            on_change=_forget, **state.bound(),
        )  # fmt: skip
    with right:
        section = st.selectbox(
            "About", [_ALL, *sections], key="about", on_change=_forget,
            format_func=lambda name: "Everything" if name == _ALL else name, **state.bound(),
        )  # fmt: skip
    if wanted is not None:
        st.button("Show all quantities", on_click=_forget, icon=":material/arrow_back:", key="all-terms")
        return [wanted]
    found = [entry for entry in everything if matches(entry, words or "") and section in (_ALL, entry.section)]
    html.note(f"{len(found)} of {len(everything)} quantities.")
    return found


def _term() -> Entry | None:
    given = st.query_params.get("term")
    if not given:
        return None
    try:
        return glossary.entry(given)
    except KeyError:
        html.note(f"The glossary has no “{given[:60]}”. Search for it instead.")
        return None


def _forget() -> None:
    st.query_params.pop("term", None)


def show(found: Sequence[Entry]) -> None:
    """Sections with their entries: a single entry is open, many are lines that open without asking the server."""
    if not found:
        html.empty("No quantity has all of these words", "Try fewer or other words, or ask about everything.")
    elif len(found) == 1:
        _single(found[0])
    else:
        introductions = {section.title: section.intro for section in glossary.SECTIONS}
        parts = []
        for title, entries in groupby(found, key=lambda entry: entry.section):
            lines = "".join(_line(entry) for entry in entries)
            introduction = f"<h2>{html.safe(title)}</h2><p>{html.safe(introductions[title])}</p>"
            parts.append(f'<section class="ci-lexicon">{introduction}{lines}</section>')
        html.show("".join(parts))  # one piece: it is there as a whole, or not yet


def _single(entry: Entry) -> None:
    st.header(html.markdown(entry.section), anchor=False)
    with st.container(border=True, key=f"term-{entry.key}"):
        html.show(_head(entry) + _body(entry), "ci-entry")
        with st.container(horizontal=True, gap="small"):
            for place in places().get(entry.key, ()):
                st.page_link(
                    ways.file(place.page),
                    label=place.label,
                    query_params=_view() | place.query,
                    icon=":material/show_chart:",
                )  # fmt: skip
            st.page_link(
                ways.file("glossary"), label="Link to this", query_params=_view() | {"term": entry.key},
                icon=":material/link:",
            )  # fmt: skip


def _line(entry: Entry) -> str:
    """An entry folded to its name, its symbol and what it is; with links to where it is shown."""
    links = [(place.label, place.page, place.query) for place in places().get(entry.key, ())]
    links.append(("Link to this", "glossary", {"term": entry.key}))
    there = "".join(
        f'<a href="{_href(page, query)}" target="_self">{html.safe(label)}</a>' for label, page, query in links
    )
    return (
        f'<details class="ci-entry"><summary>{_head(entry)}<p>{_prose(entry.summary)}</p></summary>'
        f"{_body(entry, summary=False)}<nav>{there}</nav></details>"
    )


@cache
def places() -> Mapping[str, tuple[Place, ...]]:
    """For each quantity the pages that show it."""
    from cillab.figures import PAGES, figures_of, groups  # noqa: PLC0415 (plotly comes with them)

    found: dict[str, list[Place]] = {}
    for figure in figures_of():
        page, label = PAGES[figure.page], groups(figure.page)[figure.part].part.label
        place = Place(figure.page, page.title, {})
        if page.key:
            place = Place(place.page, f"{page.title}: {label}", {page.key: label})
        for key in figure.quantities:
            if place not in found.setdefault(key, []):
                found[key].append(place)
    for key in ("quality", "displacement_of_unmoved"):  # of a map that the page makes when asked
        found[key] = [Place("explore", "Explore points", {"map": "Joint UMAP of all tasks"})]
    return {key: tuple(where) for key, where in found.items()}


def _href(page: str, query: dict[str, str]) -> str:
    """The address of a page from this one, with what the other pages show now."""
    return html.safe(f"{page}?{urlencode(_view() | query)}")


def _head(entry: Entry) -> str:
    return (
        f'<div class="ci-term"><h3>{html.safe(entry.name)}</h3><code>{html.safe(entry.symbol)}</code>'
        f"<em>{_ARROWS[entry.better]}</em></div>"
    )


def _body(entry: Entry, summary: bool = True) -> str:
    first = f"<p>{_prose(entry.summary)}</p>" if summary else ""
    return f"{first}<pre>{html.safe(entry.formula)}</pre>{_rows(entry)}"


def _view() -> dict[str, str]:
    """What the other pages show now, so that a link keeps it."""
    return {name: value for name in ("run", "step") if (value := state.get(name)) is not None}


def _rows(entry: Entry) -> str:
    rows = [
        ("Range", entry.range), ("How to read it", entry.meaning), ("Few images", entry.small_samples),
        ("Source", entry.source), ("Computed by", entry.function),
        ("In a run", ", ".join(entry.series)),
    ]  # fmt: skip
    cells = "".join(f"<dt>{name}</dt><dd>{_prose(text)}</dd>" for name, text in rows if text)
    return f"<dl>{cells}</dl>"


def _prose(text: str) -> str:
    """Docstring prose: `names` in code, all else as text."""
    pieces = html.safe(text).split("`")
    if len(pieces) % 2 == 0:  # an odd mark: leave it as it is
        return html.safe(text)
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))
