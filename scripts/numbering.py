r"""Numbers of equations and figures: `python scripts/numbering.py` checks them, `--write` gives them anew.

In a source of the course an equation is a display with `\tag{8.3}`, and a figure is a code cell whose first line is a
comment, `# Figure 8.2. What it shows`. Numbers count up from 1 in each chapter. A text refers to them by "(8.3)" and
"Figure 8.2", from any chapter. With `--write` new displays and figures (`# Figure. What it shows`) get a number, later
ones move on, and every reference follows.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parents[1] / "notebooks" / "sources"
CAPTION = re.compile(r"^# Figure(?: (?P<number>\d\d?b?\.\d+))?\. (?P<said>.+)$")
EQUATION = re.compile(r" ?\\tag\{(?P<number>[^}]*)\}")
REFERENCE = re.compile(r"\((?P<equation>\d\d?b?\.\d+)\)|\bFigure (?P<figure>\d\d?b?\.\d+)(?!\d)")
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_DRAWS = re.compile(r"\bsketch\.(?:lines|bars|heat)\(|\bfigures\.[a-z_]+\(|\bteaching\.(?:tiles|clouds|cloud_panels)\(")


class Cell(NamedTuple):
    """One cell of a source in the percent format, with the line that it begins at."""

    line: int
    text: str

    @property
    def markdown(self) -> bool:
        """Is it a text?"""
        return self.text.startswith("# %% [markdown]")

    @property
    def caption(self) -> str:
        """The first line below the head of the cell."""
        return self.text.split("\n", 2)[1] if self.text.count("\n") else ""


def cells(source: str) -> Iterator[Cell]:
    """The cells of a source."""
    line = 1
    for text in re.split(r"(?m)^(?=# %%)", source):
        if text:
            yield Cell(line, text)
        line += text.count("\n")


def chapter(path: Path) -> str:
    """8 of `08_mixture_of_noise.py`, 7b of `07b_growing_the_frame.py`."""
    return path.stem.partition("_")[0].lstrip("0") or "0"


def numbered(source: str, name: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The source with numbers in order, and which old number became which, of equations and of figures."""
    parts, equations, figures = [], {}, {}
    count = {"equation": 0, "figure": 0}

    def tagged(found: re.Match[str]) -> str:
        count["equation"] += 1
        number, old = f"{name}.{count['equation']}", EQUATION.search(found[1])
        if old:
            equations[old["number"]] = number
            return found[0].replace(old[0], rf" \tag{{{number}}}")
        return re.sub(r"\s*\$\$$", rf" \\tag{{{number}}}$$", found[0])

    for cell in cells(source):
        text = cell.text
        if cell.markdown:
            text = _DISPLAY.sub(tagged, text)
        elif found := CAPTION.match(cell.caption):
            count["figure"] += 1
            number = f"{name}.{count['figure']}"
            if found["number"]:
                figures[found["number"]] = number
            text = text.replace(cell.caption, f"# Figure {number}. {found['said']}", 1)
        parts.append(text)
    return "".join(parts), equations, figures


def referred(source: str, equations: Mapping[str, str], figures: Mapping[str, str]) -> str:
    """The source with references to the new numbers."""

    def moved(found: re.Match[str]) -> str:
        if found["equation"]:
            return f"({equations.get(found['equation'], found['equation'])})"
        return f"Figure {figures.get(found['figure'], found['figure'])}"

    return "".join(REFERENCE.sub(moved, cell.text) if cell.markdown else cell.text for cell in cells(source))


def findings(sources: Mapping[str, str]) -> list[str]:
    """What is wrong in chapters, by file: numbers out of order, dead references, figures without caption."""
    known = {"equation": set(), "figure": set()}
    found: list[str] = []
    for place, source in sources.items():
        new, equations, figures = numbered(source, chapter(Path(place)))
        if new != source:
            found.append(
                f"{place}: numbers are missing, double or out of order; run: python scripts/numbering.py --write"
            )
        known["equation"] |= set(equations)
        known["figure"] |= set(figures)
        for cell in cells(source):
            body = re.sub(r"(?m)^ *(?:def|class) .*(?:\n(?: .*)?)*", "", cell.text)  # what only a function would draw
            asked = "real-data" in cell.text.split("\n", 1)[0]
            if not cell.markdown and not asked and _DRAWS.search(body) and not CAPTION.match(cell.caption):
                found.append(f"{place}:{cell.line}: a figure without a first line `# Figure. What it shows`")
    for place, source in sources.items():
        for cell in cells(source):
            for one in REFERENCE.finditer(cell.text if cell.markdown else ""):
                kind = "equation" if one["equation"] else "figure"
                if one[kind] not in known[kind]:
                    found.append(f"{place}:{cell.line}: there is no {kind} {one[kind]}")
    return found


def main(arguments: list[str]) -> int:
    """The command line; 1 if anything is wrong."""
    sources = {path.name: path.read_text() for path in sorted(SOURCES.glob("*.py"))}
    if arguments == ["--write"]:
        made = {place: numbered(source, chapter(Path(place))) for place, source in sources.items()}
        equations = {old: new for _, moved, _ in made.values() for old, new in moved.items()}
        figures = {old: new for *_, moved in made.values() for old, new in moved.items()}
        for place, (source, *_) in made.items():
            (SOURCES / place).write_text(referred(source, equations, figures))
        return 0
    wrong = findings(sources)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
