"""Exports of a written run, read back by the programs that they are for; offline, nothing is sent."""

from pathlib import Path

import numpy as np
import pytest

from cillab.core.errors import CillabError, InvalidRequestError, UnknownNameError
from cillab.export import export, results, scalars, settings
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "first"
    return Run(write_synthetic_run(path, tasks=3, classes_per_task=2, probe=12, dim=4))


def test_what_is_told(run: Run) -> None:
    told = [(step, value) for name, step, value in scalars(run) if name == "accuracy/seen"]
    assert told == list(enumerate(run.metrics()["accuracy/seen"].values))
    assert run.result is not None and results(run)["a_last"] == run.result.a_last
    assert settings(run)["protocol.data"] == run.protocol.data


def test_another_program_and_a_taken_place_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        export(run.path, "tensorbord", str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequestError, match="not empty"):
        export(run.path, "dataset", str(tmp_path))


def test_a_program_that_is_not_installed_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(CillabError, match=r"pip install 'cillab\[wandb\]'"):
        export(run.path, "wandb", str(tmp_path))


def test_tensorboard(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'cillab[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said = export(run.path, "tensorboard", str(tmp_path / "boards"))
    assert said.endswith(f"(tensorboard --logdir {tmp_path / 'boards'})")
    found = EventAccumulator(str(tmp_path / "boards" / "first"))
    found.Reload()
    values = [event.tensor_proto.float_val[0] for event in found.Tensors("accuracy/seen")]
    assert values == pytest.approx(list(run.metrics()["accuracy/seen"].values))
    assert [event.step for event in found.Tensors("accuracy/seen")] == [0, 1, 2]
    assert found.Tensors("result/a_last")[0].tensor_proto.float_val[0] == pytest.approx(results(run)["a_last"])


@pytest.mark.slow
def test_wandb_offline(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'cillab[wandb]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    said = export(run.path, "wandb", str(tmp_path))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert said.startswith(str(folder)) and "wandb sync" in said
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert b"accuracy/seen" in content and b"result/a_last" in content and b"protocol.data" in content


@pytest.mark.slow
def test_mlflow_in_a_folder(run: Run, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'cillab[mlflow]'")
    export(run.path, "mlflow", str(tmp_path / "flow"))
    said = export(run.path, "mlflow", str(tmp_path / "flow"))  # a second run beside the first
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'flow' / 'mlflow.db'}")
    there = said.partition(", run ")[2].split()[0]
    history = sorted(client.get_metric_history(there, "accuracy/seen"), key=lambda metric: metric.step)
    assert [metric.value for metric in history] == pytest.approx(list(run.metrics()["accuracy/seen"].values))
    assert client.get_run(there).data.params["protocol.data"] == run.protocol.data


def test_dataset_of_features_with_predictions(run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(run.path, "dataset", str(tmp_path / "features"))
    found = datasets.load_from_disk(str(tmp_path / "features"))
    assert list(found) == ["t00", "t01", "t02"]
    last = run.snapshot("t02")
    assert np.array_equal(np.array(found["t02"]["features"]), last["features"].astype(np.float32))
    assert found["t02"]["prediction"][:] == last["predictions"].tolist()
    assert sum(found["t00"]["class_seen"]) < len(found["t00"]) == len(run.probe)
    row = found["t02"][0]
    assert row["class_name"] == run.class_names[row["label"]] and len(row["logits"]) == 6
