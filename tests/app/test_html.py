"""Small pieces of HTML: signs of numbers, what stays on one line, what unfolds. Oracle: the text by hand."""

import pytest

from app.shell import html


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.25, "\N{MINUS SIGN}0.25"), (2e-7, "2e\N{MINUS SIGN}07"), (0.5, "0.5"), (None, "\N{EN DASH}")],
)
def test_numbers_have_a_minus_and_no_hyphen(value, text) -> None:
    assert html.number(value) == text


def test_a_number_and_its_percent_sign_stay_on_one_line() -> None:
    assert html.safe("from 99.0 % to 98.1 %, K % 2") == "from 99.0\xa0% to 98.1\xa0%, K % 2"


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    bodies: list[str] = []
    monkeypatch.setattr(html, "show", lambda body, kind="": bodies.append(body))
    return bodies


def test_a_note_unfolds_into_how_to_read_it_and_an_aside_into_its_reasons(shown) -> None:
    html.note("A <finding>.", "One.", "Two.")
    html.aside("Not in this run: Rarity.", "It has no tail.")
    reading = "<details><summary>How to read this</summary><p>One.</p><p>Two.</p></details>"
    assert shown == [
        f"<p>A &lt;finding&gt;.</p>{reading}",
        "<details><summary>Not in this run: Rarity.</summary><p>It has no tail.</p></details>",
    ]


@pytest.mark.parametrize(
    ("value", "short"), [("not seen yet", True), ("20 of 20", True), ("class not seen yet", False)]
)
def test_short_cells_are_not_broken(shown, value, short) -> None:
    html.table(("a",), [(value,)], "A table", "ranks")
    assert ('class="short"' in shown[0]) == short
