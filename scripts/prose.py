"""What reads badly, found by rule: `python scripts/prose.py [FILE ...]`; without names, every text that people read.

    sentence   more than 35 words between two full stops
    does       a sentence that ends in "does" or "do" for "works": "Any timm model does."
    why        a chapter of the course in which fewer than two sections say **Why**
    figure     an image in Markdown or HTML without alternative text

It reads README, docs (without docs/results), the chapters' text cells, and what the app shows (string constants of
`app` and of the glossary that look like prose). Code, formulas, tables and addresses do not count. It prints
`file:line: rule: what` and ends with 1 if there is anything.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).parents[1]
LONGEST = 35  # words of a sentence
_LEAST_WHY = 2  # sections of a chapter that say why

_DOES = re.compile(r"\b(?:do|does)[.!]$")
_COMPARED = re.compile(r"\b(?:as|than|what|how|like|so|which|who|that|neither|nor|only|whatever|not)\b", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'*_(\[$]*[A-Z0-9$`])")
_SHORT = re.compile(r"\b(e\.g|i\.e|et al|cf|vs|Fig|Eq|Sec|No|approx|resp|pp|Dr|St)\.(?=\s)")
_PROSE, _CODE = re.compile(r"[a-z] [a-z].*[.!?]"), re.compile(r"[{};]\s|</|function")  # of a string of the app
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\([^)]*\)|<img\b(?P<tag>[^>]*)>", re.IGNORECASE)


class Finding(NamedTuple):
    """One place that reads badly."""

    place: str
    line: int
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: {self.rule}: {self.what}"


class Paragraph(NamedTuple):
    """Running text with the line that it begins at."""

    line: int
    text: str


def paragraphs(markdown: str) -> Iterator[Paragraph]:
    """Paragraphs and list items of a Markdown text, without code blocks, tables, headings and displayed formulas."""
    held: list[str] = []
    start, fenced, formula = 0, False, False
    for number, line in enumerate([*markdown.splitlines(), ""], start=1):
        bare = re.sub(r"^[\s>]*", "", line)
        displayed = bare.startswith("$$") or formula
        if displayed and bare.count("$$") % 2:
            formula = not formula
        ended = not bare or displayed or fenced or bare.startswith(("|", "#", "```", "<")) or line.startswith("    ")
        ended = ended and not (line.startswith("    ") and held and bare and not fenced)  # a wrapped list item
        item = re.match(r"(?:[-*+]|\d+[.)])\s+", bare)
        if (ended or item) and held:
            yield Paragraph(start, " ".join(held))
            held = []
        if bare.startswith("```"):
            fenced = not fenced
        if not ended:
            start = start if held else number
            held.append(bare[item.end() :] if item else bare)


def sentences(text: str) -> list[str]:
    """Sentences of a paragraph, with one word for each piece of code, formula or link address."""
    text = re.sub(r"`[^`]*`", "Code", text)
    text = re.sub(r"\$[^$]*\$", "Formula", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]+>|https?://\S+", " ", text)
    text = _SHORT.sub(r"\1", text)
    return [part.strip() for part in _END.split(text) if part.strip()]


def words(sentence: str) -> int:
    """Words of a sentence; a number or a formula is one, a name of code none."""
    return sum(bool(re.search(r"\w", part)) for part in sentence.split() if not re.fullmatch(r"\W*Code\W*", part))


def read(place: str, markdown: str, first_line: int = 1) -> Iterator[Finding]:
    """Sentences and figures of one text."""
    for paragraph in paragraphs(markdown):
        line = first_line + paragraph.line - 1
        for sentence in sentences(paragraph.text):
            if (count := words(sentence)) > LONGEST:
                yield Finding(place, line, "sentence", f"{count} words: {sentence[:70]}...")
            if _DOES.search(sentence) and not _COMPARED.search(sentence):
                yield Finding(place, line, "does", sentence[-70:])
    for number, line in enumerate(markdown.splitlines()):
        for image in _IMAGE.finditer(line):
            alt = image["alt"] if image["tag"] is None else " ".join(re.findall(r'alt="([^"]*)"', image["tag"]))
            if not alt.strip():
                yield Finding(place, first_line + number, "figure", f"no alternative text: {image[0][:60]}")


def chapter(place: str, source: str) -> Iterator[Finding]:
    """Text cells of a chapter in the percent format."""
    whys = 0
    for cell in re.finditer(r"^# %% \[markdown\].*\n((?:#.*\n|\n)*)", source, re.MULTILINE):
        text = re.sub(r"^# ?", "", cell[1], flags=re.MULTILINE)
        whys += text.count("**Why")
        yield from read(place, text, source[: cell.start(1)].count("\n") + 1)
    if whys < _LEAST_WHY:
        yield Finding(place, 1, "why", f"{whys} sections say **Why**, at least {_LEAST_WHY} should")


def shown(place: str, source: str) -> Iterator[Finding]:
    """String constants of a module that read as prose: what the app writes on its pages."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    notes = {id(first.value) for node in ast.walk(tree) if isinstance(node, documented) for first in node.body[:1]
             if isinstance(first, ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            line, text = node.lineno, node.value
            if _PROSE.search(text) and not _CODE.search(text):
                yield from (found._replace(line=line) for found in read(place, text))


def texts() -> list[Path]:
    """Every file with text that people read."""
    app = [*(HOME / "app").rglob("*.py"), HOME / "cillab" / "glossary.py"]
    docs = [HOME / "README.md", HOME / "notebooks" / "README.md", *(HOME / "docs").rglob("*.md")]
    docs = [path for path in docs if path.parent.name != "results"]  # records, their heads written by programs
    return sorted([*docs, *(HOME / "notebooks" / "sources").glob("*.py"), *app])


def check(path: Path) -> list[Finding]:
    """What reads badly in a file, by line."""
    whole = path.resolve()
    place = str(whole.relative_to(HOME)) if whole.is_relative_to(HOME) else str(path)
    kind = chapter if path.parent.name == "sources" else shown if path.suffix == ".py" else read
    return sorted(kind(place, path.read_text()), key=lambda found: found.line)


def main(names: list[str]) -> int:
    """The command line; the number of findings decides how it ends."""
    findings = [found for path in (map(Path, names) if names else texts()) for found in check(path)]
    print(*findings, sep="\n", end="\n" if findings else "")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
