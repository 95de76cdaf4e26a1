"""Numbers of equations and figures: unique and in order in every chapter, and every reference leads somewhere."""

import runpy
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
NUMBERING = runpy.run_path(str(HOME / "scripts" / "numbering.py"))
SOURCE = """# %% [markdown]
# $$a = b, \\tag{3.1}$$
#
# then (3.1) and Figure 3.1.

# %%
# Figure 3.1. Bars.
sketch.bars(names, rows)
"""


def test_the_course_is_in_order() -> None:
    sources = {path.name: path.read_text() for path in (HOME / "notebooks" / "sources").glob("*.py")}
    assert NUMBERING["findings"](sources) == []
    assert all("# Figure " in text for text in sources.values())


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("", "", None),
        ("tag{3.1}", "tag{3.2}", "out of order"),
        (", \\tag{3.1}", ",", "missing"),
        ("then (3.1)", "then (3.2)", "no equation 3.2"),
        ("and Figure 3.1", "and Figure 4.1", "no figure 4.1"),
        ("# Figure 3.1. Bars.\n", "", "without a first line"),
        ("# Figure 3.1. Bars.\n", "# Figure. Bars.\n", "missing"),
    ],
)
def test_what_is_out_of_order_is_said(old: str, new: str, what: str | None) -> None:
    found = NUMBERING["findings"]({"03_x.py": SOURCE.replace(old, new)})
    assert any(what in one for one in found) if what else not found


def test_a_new_equation_and_a_new_figure_move_what_comes_later_and_its_references() -> None:
    more = SOURCE.replace("# $$a", "# $$c = d.$$\n#\n# $$a").replace(
        "# %%\n#", "# %%\n# Figure. New.\nsketch.heat(m)\n\n# %%\n#"
    )
    text, equations, figures = NUMBERING["numbered"](more, "3")
    text = NUMBERING["referred"](text, equations, figures)
    assert "$$c = d. \\tag{3.1}$$" in text
    assert "then (3.2) and Figure 3.2." in text
    assert "# Figure 3.1. New." in text
    assert NUMBERING["findings"]({"03_x.py": text}) == []
