"""What the chapters once said and was not so, and where each of these is asserted or computed now.

The chapters run in `make notebooks`; here every assertion is known to be there still, and the false words to be gone.
"""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from checks.photographs import photographs

from cillab.geometry import etf
from cillab.learners.cpt import CPTParams
from cillab.learners.ease import EASEParams
from cillab.learners.min import MiNParams
from cillab.streams.shields import CLASSES, PRETRAINING

HOME = Path(__file__).parents[2] / "notebooks"

# What is true, the chapter that shows it, and a piece of the line of code that does.
CLAIMS = [
    (
        "features of a nearly frozen learner move, less than half as far",
        "00",
        'assert 0 < moved["min"] < moved["finetune"] / 2',
    ),
    ("a fixed head keeps every old answer of free features", "01", "assert old_of[:3] == [0, 1, 1]"),
    ("... and not of features that share a network", "01", "assert old_of[3] < 0.5"),
    ("without one of three conditions no simplex", "01", 'min(far.values()) == far["as it should be"]'),
    ("the mean cosine is -1/(K-1) for equal lengths only", "02", "assert equal < 1e-4 < unequal"),
    ("NC1 of old classes moves through the means of new ones", "02", "assert np.ptp(distance) > 0.01 * distance[0]"),
    ("crowding depends on the head", "03", 'assert price["LDA"] < price["nearest mean"]'),
    ("deep is what one probe does not find", "04", 'assert not np.allclose(deep["ridge"], deep["nearest mean"]'),
    ("cross-entropy does not turn a feature at its vertex", "05", '(found["cross-entropy"][1] < 1e-9)'),
    ("a factor turns nothing", "05", "# the factor turns nothing"),
    ("a base of 50 turns less, and this was not its reason", "05", "assert (round(turn(50, 60), 1), round(turn(10, 2"),
    (
        "appended columns fit as well as the first frame stood",
        "05",
        'assert curves["appended to a placed frame"][0] > 0.8',
    ),
    ("cosines are no angles", "05", "assert (round(full, 1), round(ten, 1)) == (90.6, 96.4)"),
    ("a capacity does not say which classes come", "05", "assert np.allclose(frame_of_all[handed]"),
    ("one turn is within the margin, their sum is not", "07b", "assert path > safe_angle(10 * len(m)) > degrees("),
    ("re-weighting alone moves features", "08", "assert change > 0.01"),
    ("in the library's variants nothing is drawn, unless asked for", "08", 'assert learner.params.epsilon == "one"'),
    ("two pictures are no closer than a picture and its name, here", "09", "abs(mine - one) < 0.15"),
    ("too sure is measured", "09", "assert sure > hits + 0.05"),
    ("which of two separations turned names further is computed", "10b", "names have turned by {turn:.1f} degrees"),
    ("where separation helps is judged on other images", "10b", "gain = paired(right(way[best])[~first_half]"),
    ("transport and pairs differ without any turn", "10", "assert float((by_law - by_pair).norm()) > 0.15"),
    ("two intervals do not test a difference", "12", "teaching.paired(right['acil'], right['simplecil'])"),
    ("... a paired error does, and is smaller", "14", "assert error < 0.7 * apart"),
    ("a generator learns from what the analytic head gets wrong", "08", 'length["sure and right"].mean() < 0.2 * min('),
    ("planted faults do not show in accuracy", "13", "assert max(shares.values()) - min(shares.values()) < 0.03"),
    ("how many photographs of Caltech-101", "12", 'real["images"] == 5 * 71'),
]
GONE = [
    "nothing stirs",
    "gone for good",
    "mended without data",
    "a new task starts exactly where",
    "any two pictures of",
    "gone from the features",
]


def code(chapter: str) -> str:
    path = next(HOME.glob(f"{chapter}_*.ipynb"))
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize(("claim", "chapter", "line"), CLAIMS, ids=lambda value: value if len(str(value)) < 60 else "")
def test_what_was_false_once_is_shown_by_code(claim: str, chapter: str, line: str) -> None:
    assert line in code(chapter), claim


def test_the_false_words_are_gone() -> None:
    files = [*HOME.glob("*.ipynb"), *(HOME / "checks").glob("*.py"), *(HOME.parent / "cillab" / "figures").glob("*.py")]
    texts = {path.name: re.sub(r"\s+", " ", path.read_text()) for path in files}
    assert [(name, words) for name, text in texts.items() for words in GONE if words in text] == []


def test_history_is_told_as_history() -> None:
    """Protocols with a base of half the classes are older than fixed frames; chapter and bibliography say whose."""
    text = next(HOME.glob("05_*.ipynb")).read_text()
    known = (HOME.parent / "docs" / "course" / "bibliography.md").read_text()
    for name in ("LUCIR", "PODNet"):
        assert name in text
        assert name in known


def test_five_points_are_recentring_and_a_five_fold_rate() -> None:
    """Chapter 08 quotes a difference of two variants of MiN, which differ in both."""
    recorded = ast.literal_eval("{" + code("08").partition("RECORDED = {")[2].partition("}")[0] + "}")
    paper, ours = recorded["min, paper (1 order)"][0], recorded["min, recentred"][0]
    assert round(ours - paper) == 5
    theirs, mine = MiNParams(variant="paper"), MiNParams(variant="recentred")
    assert mine.fit.lr == pytest.approx(5 * theirs.fit.lr)
    assert mine.recentre and not theirs.recentre


def test_cross_entropy_at_a_vertex_asks_for_length_and_does_not_turn() -> None:
    """Chapter 07 says so in passing, and measures it for its own loss."""
    frame = torch.from_numpy(etf.simplex_etf(10, 20, np.random.default_rng(0)))
    z = frame[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy((frame @ z)[None], torch.tensor([0])), z)
    along = slope @ frame[0]
    assert along < -0.1
    assert float((slope - along * frame[0]).norm()) < 1e-9


def test_prevention_needs_no_old_image() -> None:
    """Local competitors keep old photographs that all competitors lose, with no image kept by either."""
    real = photographs("04")
    assert real["local"]["old"] > real["seen"]["old"] + 0.1
    assert real["local"]["old called new"] < 0.2 * real["seen"]["old called new"]


def test_settings_that_the_text_states_are_those_of_the_library() -> None:
    assert CPTParams().etf_weight == 0.25  # 10b
    assert EASEParams().alpha == 0.1  # 16
    assert len(PRETRAINING) == 4000 and not set(PRETRAINING) & set(CLASSES)  # 09


def test_every_chapter_shows_its_point_on_photographs_from_a_recorded_run() -> None:
    for path in sorted(HOME.glob("*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
        shown = [text for text in cells if re.match(r"# Figure \w+\.\d+\. Photographs: ", text)]
        assert shown, path.name
        measured = any(re.search(r"= (photographs|recorded)\(", text) for text in shown)
        assert measured or any("RECORDED = {" in text for text in shown), path.name


def test_every_paper_with_an_address_stands_in_the_bibliography() -> None:
    known = (HOME.parent / "docs" / "course" / "bibliography.md").read_text()
    cited = {one for path in HOME.glob("*.ipynb") for one in re.findall(r"arXiv:\d{4}\.\d{5}", path.read_text())}
    assert len(cited) > 8
    assert sorted(one for one in cited if one not in known) == []
