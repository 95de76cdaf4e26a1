"""Other heads on recorded features: their answers are those of the heads themselves, absent where none can be."""

import numpy as np
import pytest

from cillab.geometry.nc3 import nearest_mean
from cillab.geometry.rows import unit
from cillab.player import heads
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(write_synthetic_run(tmp_path_factory.mktemp("runs") / "one", tasks=3, dim=16))


def test_answers_are_those_of_the_heads(run) -> None:
    shots = [run.snapshot(step) for step in run.steps]
    found = heads.head_answers(run, shots)
    assert set(found) == set(heads.HEADS)
    for at, shot in enumerate(shots):
        features, means = (np.asarray(shot[name], dtype=np.float64) for name in ("features", "means/now"))
        nearest = nearest_mean(unit(features), unit(means))  # on the sphere: the largest cosine
        assert (shot["seen"][nearest] == found["means"][at]).mean() > 0.99  # up to ties in single precision
        assert set(found["ridge"][at]) <= set(shot["seen"].tolist())
    labels, last = run.probe.labels, shots[-1]
    ours = (last["predictions"] == labels).mean()
    assert (found["ridge"][-1] == labels).mean() >= ours - 0.1  # an oracle: all training images at once


def test_a_simplex_without_room_is_left_out_and_so_is_a_run_that_is_too_large(run, tmp_path, monkeypatch) -> None:
    flat = Run(write_synthetic_run(tmp_path / "flat", tasks=3, dim=3))
    shots = [flat.snapshot(step) for step in flat.steps]
    found = heads.head_answers(flat, shots)
    assert (found["etf"][0] != -1).all()  # four classes in three dimensions have room
    assert (found["etf"][1:] == -1).all()
    monkeypatch.setattr(heads, "_ROOM", 10)
    assert heads.head_answers(run, [run.snapshot(step) for step in run.steps]) == {}


def test_the_recorded_run_that_forgets_has_lost_it_in_the_head() -> None:
    """The line that says what to look for is true: another head on the same features brings most of it back."""
    from cillab.demo import LOOK_FOR, demo_runs

    assert set(LOOK_FOR) == set(demo_runs())
    forgets = Run(demo_runs()["finetune"])
    last, labels = forgets.snapshot(forgets.steps[-1]), forgets.probe.labels
    learned = float((last["predictions"] == labels).mean())
    for answers in heads.head_answers(forgets, [last]).values():
        assert float((answers[0] == labels).mean()) > learned + 0.15
