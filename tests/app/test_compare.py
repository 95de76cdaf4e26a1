"""Compare: two runs image by image, and which part of a protocol differs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from app.views.compare import tables as compare
from cillab.core.errors import InvalidRequestError

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


def view(ids: list[str], answers: list[list[int]], seen: list[list[int]]) -> Any:
    """A run whose probe has the labels 0, 1, 2, ... under `ids`, with its answers task by task."""
    shots = [{"seen": np.array(s), "predictions": np.array(a)} for s, a in zip(seen, answers, strict=True)]
    run = SimpleNamespace(probe=SimpleNamespace(ids=tuple(ids), labels=np.arange(len(ids)), tasks=None))
    return cast("Any", SimpleNamespace(run=run, steps=shots, snapshots=shots))


def test_images_are_paired_by_id_and_only_learnt_ones_count() -> None:
    one = view(["a", "b", "c"], [[0, 1, 0]], [[0, 1]])
    other = view(["c", "b", "a"], [[0, 0, 0], [0, 1, 2]], [[0, 1, 2], [0, 1, 2]])
    step, first, second = compare.answers(one, other)
    assert step == 0, "the last task that both have"
    assert first.tolist() == [True, True] and second.tolist() == [False, False]  # a and b; c was not learnt by `one`


def test_runs_without_a_common_image_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no test image in common"):
        compare.answers(view(["a"], [[0]], [[0]]), view(["b"], [[0]], [[0]]))


def test_what_differs_comes_first_and_stands_out() -> None:
    from cillab.protocol import protocol_key

    row = dict.fromkeys(protocol_key(), "x") | {"split": "B0-Inc5", "leaked": False}
    text = compare._protocol(row, ["split"])
    assert text.startswith('<span class="on"><b>split</b>B0-Inc5</span>')
    assert text.count('class="on"') == 1


def test_the_page_says_which_recorded_run_is_better_on_the_same_images(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_RUNS", str(tmp_path))
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120)
    test.switch_page("views/compare/compare.py").run()
    (runs,) = [box for box in test.multiselect if str(box.key).startswith("curves-")]
    runs.set_value(["demo-ncptm", "demo-finetune"]).run()  # whichever stand there at first
    (this,) = [box for box in test.selectbox if str(box.key).startswith("image-this-")]
    this.select(this.options.index("ncptm")).run()
    (minus,) = [box for box in test.selectbox if str(box.key).startswith("image-minus-")]
    minus.select(minus.options.index("finetune")).run()
    assert not test.exception
    text = " ".join(element.proto.body for element in test.get("html"))
    assert "ncptm minus finetune: +" in text and "exact McNemar test" in text
