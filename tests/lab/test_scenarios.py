"""A whole run under each scenario: what reaches the learner, the probe and the result."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cillab.core.errors import IncompatibleError
from cillab.lab import Lab
from cillab.protocol.rarity import shots_of
from cillab.runs import Run
from cillab.streams.stream import make_stream
from tests.lab.fakes import Line, Tiny
from tests.streams.worlds import array_source


def lab_at(path: Path, **scenario: object) -> Lab:
    stream = make_stream(array_source(classes=6, train=12, test=3), **scenario)  # type: ignore[arg-type]
    return Lab(stream, Tiny(Line()), path, probe_points=12, train_probe_per_class=4)


def test_all_at_once_with_a_tail(tmp_path: Path) -> None:
    lab = lab_at(tmp_path / "r", scenario="all-at-once", shots=8, imbalance=0.2)
    assert len(list(lab)) == 1
    run, shot = Run(lab.path), Run(lab.path).snapshot("t00")
    assert shot["train_images"].tolist() == list(shots_of(8, 0.2, 6))
    p, r = run.protocol, run.result
    assert (p.scenario.text, p.split, p.order) == ("all-at-once(shots=8, imbalance=0.2)", "all", "natural")
    by_class = np.diag(shot["confusion"]) / shot["confusion"].sum(axis=1)
    expected = by_class.reshape(3, 2).mean(axis=1)  # classes 0, 1 are the head, 4, 5 the tail
    assert (r.accuracy_head, r.accuracy_medium, r.accuracy_tail) == pytest.approx(tuple(expected))
    assert r.harmonic is None and r.a_last == pytest.approx(expected.mean())


def test_base_to_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "capabilities", replace(Tiny.capabilities, learns_names=True))
    lab = lab_at(tmp_path / "r", scenario="base-to-new", shots=8)
    base, new = list(lab)
    assert (base.classes, new.classes) == ((0, 1, 2), (3, 4, 5))
    run, shot = Run(lab.path), Run(lab.path).snapshot("t01")
    assert shot["train_images"].tolist() == [8, 8, 8, 0, 0, 0]
    assert np.isnan(shot["means/now"][3:]).all() and np.isfinite(shot["means/now"][:3]).all()
    assert "accuracy/fresh" not in shot and "accuracy/fresh" in run.snapshot("t00")  # needs images of every class
    r = run.result
    assert r.accuracy_base == pytest.approx(base.accuracy.seen)
    assert r.harmonic == pytest.approx(2 * r.accuracy_base * r.accuracy_new / (r.accuracy_base + r.accuracy_new))
    assert r.accuracy_tail is None  # balanced


def test_a_base_to_new_run_goes_on_after_its_first_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "capabilities", replace(Tiny.capabilities, learns_names=True))
    straight, broken = (lab_at(tmp_path / name, scenario="base-to-new", shots=8) for name in ("a", "b"))
    list(straight)
    next(iter(broken))
    resumed = Lab.resume(tmp_path / "b", stream=broken.stream, learner=Tiny(Line()))
    list(resumed)
    assert resumed.run.result.harmonic == straight.run.result.harmonic
    for name, value in straight.run.snapshot("t01").items():
        np.testing.assert_array_equal(value, resumed.run.snapshot("t01")[name], err_msg=name)


def test_a_learner_that_needs_images_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="'tiny' needs images of every class"):
        lab_at(tmp_path / "r", scenario="base-to-new")
    assert not any(tmp_path.iterdir())
