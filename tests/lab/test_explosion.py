"""A learning rate that is far too large: the task stops with what to try, and the run goes on from the task's start."""

from pathlib import Path

import numpy as np
import pytest

from cillab.backbones import make_backbone
from cillab.core.errors import CillabError, InvalidRequestError
from cillab.lab import Lab
from cillab.learners import learners, make_learner
from cillab.report import write_report
from cillab.runs import Run
from cillab.runs.arrays import Arrays
from cillab.runs.files import write_arrays
from cillab.streams.stream import make_stream
from tests.runs.synthetic import write_synthetic_run

TRAINED = ("finetune", "min", "ncptm")


def lab_at(path: Path, learner: str, **params) -> Lab:
    stream = make_stream("digits", split="B0-Inc5", train_per_class=6, test_per_class=4)
    backbone = make_backbone("bundled:vit", precision="fp32")
    params = {**learners[learner].Params.quick, **params}
    return Lab(stream, make_learner(learner, backbone, **params), path, probe_points=10, train_probe_per_class=4)


@pytest.mark.parametrize("learner", TRAINED)
def test_the_task_stops_and_the_run_goes_on_from_its_start(learner: str, tmp_path: Path) -> None:
    lab = lab_at(tmp_path / "r", learner, lr=1e6)
    before = {f"{n}/{k}": t.clone() for n, p in lab.learner.parts().items() for k, t in p.state().tensors.items()}
    with pytest.raises(CillabError, match=r"[Ll]ower") as caught:
        list(lab)
    assert "lr" in str(caught.value) and "\n" not in str(caught.value)
    after = {f"{n}/{k}": t for n, p in lab.learner.parts().items() for k, t in p.state().tensors.items()}
    assert set(after) == set(before) and all(after[name].equal(before[name]) for name in before)
    run = Run(tmp_path / "r")
    assert run.status.state == "failed" and "lower" in run.status.error.lower() and not run.steps


@pytest.mark.parametrize("learner", sorted(set(learners) - set(TRAINED)))
@pytest.mark.slow
def test_no_method_ends_in_a_traceback(learner: str, tmp_path: Path) -> None:
    if "clip" in learners[learner].capabilities.needs or "lr" not in "".join(learners[learner].Params.model_fields):
        pytest.skip("another backbone, or no rate")
    try:
        list(lab_at(tmp_path / "r", learner, lr=1e6))
    except InvalidRequestError as error:
        assert "ower" in str(error)


def test_a_report_of_numbers_that_are_none_is_a_page(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "r", tasks=2, classes_per_task=2, probe=8, dim=4)
    file = path / "steps" / "t01.safetensors"
    arrays = Arrays(file)
    changed = {name: np.array(arrays[name]) for name in arrays.names}
    for name in ("features", "logits", "means/now", "head/weight", "cosine"):
        changed[name][...] = np.nan
    write_arrays(file, changed)
    assert write_report(path, tmp_path / "r.html") > 1000
