"""Equations of a method's docstring, typeset: Greek letters, indices and signs in place of their spellings.

A docstring writes its equations as plain text, indented, in columns, so that they read in an editor: `mu_c <- ||h||^2`.
Here each line becomes a row of two cells, the equation and what stands behind it in brackets.
"""

import re
from html import escape, unescape
from itertools import zip_longest

from app.shell import html

_LETTERS = """alpha beta gamma delta epsilon zeta eta theta lambda mu nu xi pi rho sigma tau phi psi omega
Gamma Delta Theta Lambda Sigma Phi Psi Omega"""
_GREEK = {name: unescape(f"&{name};") for name in _LETTERS.split()}
_GREEK["eps"] = _GREEK["epsilon"]
_SIGNS = {
    "<->": "↔", "<-": "←", "->": "→", "<=": "≤", ">=": "≥", "!=": "≠", "+-": "±", "||": "‖", "...": "…",
    "~": "\N{TILDE OPERATOR}", " . ": " · ", " * ": " · ", "sqrt": "√",
}  # fmt: skip
_SUMS = {"sum": "∑", "prod": "∏"}
_SIGN = re.compile("|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True)))
_MINUS = re.compile(r"(?<![A-Za-z])-|-(?![A-Za-z])")  # the hyphen of a word stays
_BRACKETS = re.compile(r"<(?!-)([^<>=]*,[^<>=]*)(?<!-)>")  # <a, b> is an inner product
_NAME = re.compile(r"(?<![A-Za-z])([A-Za-z]+)(?![A-Za-z])('*)")
_INDEX = re.compile(r"([_^])(\{[^{}]*\}|-?[A-Za-z0-9]+'*)")
_SYMBOL = re.compile(  # of a sentence: a letter or a Greek one with an index
    rf"(?<![A-Za-z&#])(?:[A-Za-z]|{'|'.join(_GREEK)})(?:[_^](?:\{{[^{{}}]*\}}|[A-Za-z0-9]+))+"
)
_BEHIND = re.compile(r"\s*((?:\[[A-Z][A-Za-z]*\]|\[[a-z]+(?:_[a-z]+)*\])?\s*(?:\(\d+\)(?:,\s*\(\d+\))*)?)\s*$")


def show(text: str) -> None:
    """A docstring: paragraphs as they are, indented blocks as equations."""
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            parts.append(f'<div class="eq">{"".join(_row(line) for line in lines)}</div>')
        else:
            parts.append(f"<p>{prose(' '.join(' '.join(lines).split()))}</p>")
    html.show("".join(parts), "ci-equations")


def _row(line: str) -> str:
    behind = _BEHIND.search(line)
    assert behind is not None  # it may be empty
    words, space = line[: behind.start()], len(line) - len(line.lstrip())
    deep = " deep" if space > len("    ") else ""
    return f'<span class="is{deep}">{typeset(words.strip())}</span><span class="by">{html.safe(behind[1])}</span>'


def prose(text: str) -> str:
    """A sentence as HTML: names in backticks as code, symbols with an index typeset."""
    pieces = html.safe(text).split("`")
    plain = [_SYMBOL.sub(lambda found: typeset(found[0]), piece) for piece in pieces[::2]]
    code = [f"<code>{piece}</code>" for piece in pieces[1::2]]
    return "".join(piece for pair in zip_longest(plain, code, fillvalue="") for piece in pair)


def typeset(line: str) -> str:
    """One equation of plain text as HTML.

    >>> typeset("mu_c <- ||h||^2")
    '<i>μ</i><sub><i>c</i></sub> ← ‖<i>h</i>‖<sup>2</sup>'
    """
    line = _BRACKETS.sub("⟨\\1⟩", line)
    out, at = [], 0
    for found in _INDEX.finditer(line):
        out.append(_flat(line[at : found.start()]))
        tag = "sub" if found[1] == "_" else "sup"
        inside = found[2].removeprefix("{").removesuffix("}")
        out.append(f"<{tag}>{typeset(inside)}</{tag}>")
        at = found.end()
    return "".join([*out, _flat(line[at:])])


def _flat(text: str) -> str:
    text = _MINUS.sub("\N{MINUS SIGN}", _SIGN.sub(lambda found: _SIGNS[found[0]], text))
    return _NAME.sub(_name, escape(text, quote=False))


def _name(found: re.Match[str]) -> str:
    word, primes = found[1], found[2].replace("'", "\N{PRIME}")
    if word in _SUMS:
        return _SUMS[word]
    if word in _GREEK:
        return f"<i>{_GREEK[word]}</i>{primes}"
    return f"<i>{word}</i>{primes}" if len(word) == 1 else f"{word}{primes}"
