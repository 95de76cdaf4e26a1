"""Sweeps compare what a folder holds with what is asked for, before they take it."""

import json
from pathlib import Path

from cillab.lab.spec import RunSpec
from cillab.lab.sweep import sweep
from cillab.learners.finetune import FinetuneParams
from cillab.runs.files import write_record
from tests.runs.synthetic import write_synthetic_run


def test_a_folder_of_another_spec_is_not_taken_for_this_one(tmp_path: Path) -> None:
    spec = RunSpec.of({"data": "digits", "learner": "finetune", "params": {"epochs": 2}, "out": str(tmp_path / "r")})
    path = write_synthetic_run(tmp_path / "r", tasks=2, classes_per_task=2, probe=4, dim=4)
    info = json.loads((path / "run.json").read_text())
    resolved = FinetuneParams(epochs=2).model_dump(mode="json")
    write_record(path / "run.json", info | {"spec": spec.with_(params=resolved).flat()})
    assert next(sweep([spec])).note == "was there already"
    for changes, what in (({"params": {"epochs": 3}}, "params"), ({"seed": 7}, "seed"), ({"params": {}}, "params")):
        outcome = next(sweep([spec.with_(**changes)]))
        assert outcome.state == "failed" and f"holds a run with another {what}" in outcome.note
    assert next(sweep([spec.with_(cams=True)])).note == "was there already"  # no number depends on it
    (path / "run.json").write_text("{")
    outcomes = list(sweep([spec, spec]))
    assert [one.state for one in outcomes] == ["failed", "failed"] and "damaged" in outcomes[0].note
