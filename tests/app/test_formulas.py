"""Equations in plain text become signs, letters and indices; nothing else changes, and nothing becomes markup."""

import re
from html import unescape

import pytest

pytest.importorskip("streamlit")
from app.views.train.formulas import _GREEK, _row, prose, typeset
from cillab.learners import learners

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ("mu_c <- ||h||^2", "<i>μ</i><sub><i>c</i></sub> ← ‖<i>h</i>‖<sup>2</sup>"),
        ("theta'_i - 1", "<i>θ</i>\N{PRIME}<sub><i>i</i></sub> \N{MINUS SIGN} 1"),
        ("S^{-1/2}", "<i>S</i><sup>\N{MINUS SIGN}1/2</sup>"),
        ("h_{t(c_k)}", "<i>h</i><sub><i>t</i>(<i>c</i><sub><i>k</i></sub>)</sub>"),
        ("sum_{i<t} a_i", "∑<sub><i>i</i>&lt;<i>t</i></sub> <i>a</i><sub><i>i</i></sub>"),
        ("<m_k, z>, a <- b", "⟨<i>m</i><sub><i>k</i></sub>, <i>z</i>⟩, <i>a</i> ← <i>b</i>"),
        ("a <- b, c -> d", "<i>a</i> ← <i>b</i>, <i>c</i> → <i>d</i>"),
        ("cross-entropy of softmax_b(x)", "cross-entropy of softmax<sub><i>b</i></sub>(<i>x</i>)"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ],
)  # fmt: skip
def test_signs(plain: str, shown: str) -> None:
    assert typeset(plain) == shown


def test_sentences_keep_their_words() -> None:
    assert prose("p_i of `W_down` & D^2, a_last") == (
        "<i>p</i><sub><i>i</i></sub> of <code>W_down</code> &amp; <i>D</i><sup>2</sup>, <i>a</i><sub>last</sub>"
    )
    assert prose("authors' code: x_i < 3") == "authors&#x27; code: <i>x</i><sub><i>i</i></sub> &lt; 3"


def test_what_stands_behind_has_its_own_cell() -> None:
    assert _row("    logits = phi W      [Ridge]  (3)").endswith('<span class="by">[Ridge]  (3)</span>')
    assert _row("    mixture    w = softmax(s)   (11), (12)").endswith('<span class="by">(11), (12)</span>')
    assert 'class="is deep"' in _row("                    h' = the feature before")


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text).replace("epsilon", "eps")


@pytest.mark.parametrize("name", sorted(learners))
def test_no_letter_of_an_equation_is_lost(name: str) -> None:
    """Without tags and indices the text is the docstring's, sign by sign."""
    greek = {letter: word for word, letter in _GREEK.items()}
    for line in (learners[name].__doc__ or "").splitlines():
        if line.startswith(" " * 8) or "_{" in line:
            text = unescape(re.sub(r"<[^>]*>", "", typeset(line)))
            for sign, word in {**greek, "∑": "sum", "∏": "prod", "√": "sqrt"}.items():
                text = text.replace(sign, word)
            assert _letters(text) == _letters(line)
