"""Where a form may start from: what presets have chosen, for every learner."""

from cillab.core.params import build
from cillab.lab.spec import RunSpec
from cillab.lab.starts import starts
from cillab.lab.sweep import read_plan
from cillab.learners import learners

RECORDS = {name: learners[name].Params for name in learners}


def test_every_method_has_one_that_is_a_spec_of_its_own() -> None:
    for learner, rows in starts(RECORDS).items():
        assert rows[0].name == "A first look"
        assert len({row.name for row in rows}) == len(rows)
        for row in rows:
            spec = RunSpec.of({**row.settings, "learner": learner, "params": row.params})
            build(RECORDS[learner], spec.params, learner)


def test_a_start_is_the_row_of_its_preset() -> None:
    """The same digest: a run from the form and a run of the sweep are one run."""
    (start,) = [one for one in starts(RECORDS)["ncptm"] if one.name == "As in its paper, CIFAR-100, B0-Inc10"]
    row = dict(read_plan("preset:ncptm-paper").rows)["CIFAR-100, B0-Inc10"]
    spec = RunSpec.of({**start.settings, "learner": "ncptm", "params": start.params, "seed": row.stream.seed})
    assert spec.digest() == row.digest()


def test_readers_of_names_begin_on_clip() -> None:
    found = starts(RECORDS, frozenset({"dmc"}))
    assert found["dmc"][0].settings["backbone"] == "bundled:clip"
    assert "backbone" not in found["simplecil"][0].settings


def test_ablations_are_no_starts() -> None:
    assert not [row.name for rows in starts(RECORDS).values() for row in rows if "ablation" in row.words]
