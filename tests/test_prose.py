"""The prose check: what it finds, what it leaves alone, and that the texts of the project pass."""

import runpy
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
PROSE = runpy.run_path(str(HOME / "scripts" / "prose.py"))
LONG = "The gradient " + "of the gradient " * 12 + "is long."


def rules(markdown: str) -> list[tuple[int, str]]:
    return [(found.line, found.rule) for found in PROSE["read"]("text", markdown)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LONG, [(1, "sentence")]),
        (f"Short.\n\nAlso short. {LONG}", [(3, "sentence")]),
        ("* one\n* " + LONG, [(2, "sentence")]),
        (f"> **Predict.** {LONG}", [(1, "sentence")]),
        ("Any timm model does.", [(1, "does")]),
        ("![](figure.png)", [(1, "figure")]),
        ('<img src="figure.png">', [(1, "figure")]),
        ('<img src="figure.png" alt="">', [(1, "figure")]),
    ],
)
def test_what_reads_badly_is_found_with_its_line(text: str, found: list[tuple[int, str]]) -> None:
    assert rules(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "It turns as the frame does. Nobody knows what it does.",
        f"```\n{LONG}\n```",
        f"| {LONG} | {LONG} |",
        f"# {LONG}",
        f"    {LONG}",
        f"$$\n{LONG}\n$$",
        "The names " + ", ".join(["`name`"] * 60) + " are code.",
        "Two sentences of twenty words. " * 20,
        "See Zhou et al. " + "word " * 20 + ". The next one. " + "word " * 20,
        "![A frame that grows](figure.png)",
        '<img src="figure.png" alt="A frame that grows">',
    ],
)
def test_what_is_no_sentence_or_short_is_left_alone(text: str) -> None:
    assert rules(text) == []


def test_a_chapter_says_why_twice() -> None:
    cell = "# %% [markdown]\n# **Why.** Because.\n\n"
    asked = PROSE["chapter"]
    assert [found.rule for found in asked("chapter", cell)] == ["why"]
    assert not list(asked("chapter", cell * 2))
    long = f'{cell * 2}# %%\n"""{LONG}"""\n\n# %% [markdown]\n#\n# {LONG}\n'
    assert [(found.line, found.rule) for found in asked("chapter", long)] == [(12, "sentence")]


def test_of_a_module_only_what_it_shows_is_read() -> None:
    module = f'"""{LONG}"""\n\n\ndef f():\n    """{LONG}"""\n    return "{LONG}"\n'
    assert [(found.line, found.rule) for found in PROSE["shown"]("app", module)] == [(6, "sentence")]
    assert not list(PROSE["shown"]("app", f'CSS = "a {{ color: red }} {LONG}"\n'))


def test_the_command_ends_in_one_where_something_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.md"
    bad.write_text("Any timm model does.\n")
    assert PROSE["main"]([str(bad)]) == 1
    assert f"{bad}:1: does: Any timm model does." in capsys.readouterr().out
    bad.write_text("Any timm model works.\n")
    assert PROSE["main"]([str(bad)]) == 0
