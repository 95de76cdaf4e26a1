"""What goes on with a run, or changes one, takes it as it was begun, and as its one writer."""

import json
from pathlib import Path

import pytest

from cillab.core.errors import RunError
from cillab.lab import fork
from cillab.lab.slim import slim
from cillab.lab.spec import RunSpec
from cillab.runs.claim import is_claimed
from cillab.runs.files import write_record
from tests.runs.synthetic import write_synthetic_run
from tests.runs.test_claim import Holder


def test_a_resumed_run_computes_in_the_precision_in_which_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_synthetic_run(tmp_path / "r", tasks=3, classes_per_task=2, probe=6, dim=4, finished=False)
    for file in (path / "steps").glob("*"):
        file.unlink()  # no task is finished: nothing but the spec decides
    info = json.loads((path / "run.json").read_text())
    asked = []

    def prepare(spec: RunSpec) -> None:
        asked.append(spec.backbone.precision)
        raise RunError("enough")

    monkeypatch.setattr(fork, "prepare", prepare)
    for precision in ("bf16", "fp32", ""):
        write_record(path / "run.json", info | {"spec": RunSpec().flat(), "precision": precision})
        with pytest.raises(RunError, match="enough"):
            fork.continued(path, None, None)
    assert asked == ["bf16", "fp32", "auto"]  # an old run does not say what auto was


def test_slimming_takes_the_writers_lock(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "r", tasks=2, classes_per_task=2, probe=4, dim=4)
    other = Holder(path)
    before = {file: file.read_bytes() for file in path.rglob("*.safetensors")}
    with pytest.raises(RunError, match=f"is being written by process {other.process.pid}"):
        slim(path)
    assert before == {file: file.read_bytes() for file in path.rglob("*.safetensors")}
    other.end()
    slim(path)
    assert not is_claimed(path)
