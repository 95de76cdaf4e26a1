"""A run for programs that people have already: trackers of experiments, and a Hugging Face data set of its features.

Everything is written to files here. Weights & Biases gets an offline run, which `wandb sync` uploads if its owner wants
so; MLflow gets a database in a folder, or the server that the user names.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cillab.core.errors import CillabError, InvalidRequestError, one_line, unknown_name
from cillab.runs import Run, parse_step

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_\-./ ]")  # in the strictest of the trackers
_PROJECT = "cillab"


def export(path: str | Path, to: str, out: str) -> str:
    """Write the run at `path` for another program; returns one line that says where it is and how to look at it.

    Args:
        path: Run folder.
        to: tensorboard, wandb, mlflow or dataset.
        out: A folder; for MLflow also the address of a tracking server, such as http://localhost:5000.

    Raises:
        UnknownNameError: another program. RunError: no run, or a damaged one.
        InvalidRequestError: the place is taken. CillabError: the program is not installed.
    """
    if to not in EXPORTERS:
        raise unknown_name("export", to, list(EXPORTERS))
    run = Run(path)
    if not run.task_steps:
        raise InvalidRequestError(f"{run.path} has no finished task yet: nothing to export.")
    try:
        return EXPORTERS[to](run, out)
    except ImportError as error:
        extra = "" if to == "dataset" else f": pip install 'cillab[{to}]'"
        raise CillabError(f"export to {to} needs what is not installed ({one_line(error)}){extra}.") from error


def _to_tensorboard(run: Run, out: str) -> str:
    from tensorboard.summary import Writer  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    folder = _free(Path(out).expanduser() / run.name)
    writer = Writer(str(folder))
    for name, step, value in scalars(run):
        writer.add_scalar(name, value, step)
    for name, value in results(run).items():
        writer.add_scalar(f"result/{name}", value, len(run.task_steps) - 1)
    writer.close()
    return f"{folder}  (tensorboard --logdir {folder.parent})"


def _to_wandb(run: Run, out: str) -> str:
    import wandb  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    quiet = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
    there = wandb.init(
        mode="offline", dir=str(folder), project=_PROJECT, name=run.name, config=settings(run), settings=quiet
    )
    there.define_metric("*", step_metric="task")
    there.define_metric("train/*", step_metric="train/row")
    for name, step, value in scalars(run):
        there.log({name: value, "train/row" if name.startswith("train/") else "task": step})
    there.summary.update({f"result/{name}": value for name, value in results(run).items()})
    files = Path(there.dir).parent
    there.finish()
    return f"{files}  (wandb sync {files} uploads it)"


def _to_mlflow(run: Run, out: str) -> str:
    from mlflow import MlflowClient  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    from mlflow.entities import Metric, Param  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    where = out
    if "://" not in out:
        folder = Path(out).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        where = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=where)
    known = client.get_experiment_by_name(_PROJECT)
    experiment = known.experiment_id if known is not None else client.create_experiment(_PROJECT)
    there = client.create_run(experiment, run_name=run.name).info.run_id
    client.log_batch(there, params=[Param(key, _text(value)[:500]) for key, value in settings(run).items()])
    last = len(run.task_steps) - 1
    metrics = [Metric(name, value, 0, step) for name, step, value in scalars(run)]
    metrics += [Metric(f"result/{name}", value, 0, last) for name, value in results(run).items()]
    for first in range(0, len(metrics), 1000):  # the most that a server takes at once
        client.log_batch(there, metrics=metrics[first : first + 1000])
    client.set_terminated(there)
    return f"{where}, run {there}  (mlflow ui --backend-store-uri {where})"


def _to_dataset(run: Run, out: str) -> str:
    from datasets import Dataset, DatasetDict, Features, Sequence, Value  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    folder, probe, parts = _free(Path(out).expanduser()), run.probe, {}
    names = [run.class_names.get(int(label), str(label)) for label in probe.labels]
    text, number, row = Value("string"), Value("int64"), Sequence(Value("float32"))
    kinds = {
        "id": text, "label": number, "class_name": text, "task": number, "features": row, "logits": row,
        "prediction": number, "predicted_name": text, "class_seen": Value("bool"),
    }  # fmt: skip
    for step in run.task_steps:
        found = run.snapshot(step)
        predicted, seen = found["predictions"].tolist(), set(found["seen"].tolist())
        columns = {
            "id": [str(one) for one in probe.ids],
            "label": probe.labels.tolist(),
            "class_name": names,
            "task": probe.tasks.tolist(),
            "features": list(found["features"].astype(np.float32)),
            "logits": list(found["logits"].astype(np.float32)),
            "prediction": predicted,
            "predicted_name": [run.class_names.get(label, str(label)) for label in predicted],
            "class_seen": [int(label) in seen for label in probe.labels],
        }
        parts[step] = Dataset.from_dict(columns, features=Features(kinds))
        parts[step].info.description = json.dumps(
            {"run": run.name, "logits_are_of_classes": found["seen"].tolist(), "spec": run.spec}
        )
    DatasetDict(parts).save_to_disk(folder)
    return f"{folder}  (datasets.load_from_disk({str(folder)!r})[{run.task_steps[-1]!r}])"


EXPORTERS: dict[str, Callable[[Run, str], str]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "dataset": _to_dataset,
}


def scalars(run: Run) -> Iterator[tuple[str, int, float]]:
    """Name, position and value of every finite scalar: the task, or for `train/...` the row among those of its name."""
    counted: dict[str, int] = {}
    for row in run.metrics().rows:
        name, parsed = row["name"], parse_step(row["step"])
        if parsed is None or not math.isfinite(row["value"]):
            continue
        position = parsed[0]
        if name.startswith("train/"):
            position = counted[name] = counted.get(name, -1) + 1
        yield _NOT_A_NAME.sub("_", name), position, row["value"]


def settings(run: Run) -> dict[str, Any]:
    """The spec with the learner's parameters as `params.NAME`, and the facts of the protocol that it does not hold."""
    spec = {key: value for key, value in run.spec.items() if key != "params"}
    params = {f"params.{key}": value for key, value in (run.spec.get("params") or {}).items()}
    protocol = {f"protocol.{key}": value for key, value in run.protocol.model_dump(mode="json").items()}
    found = {**spec, **params, **protocol, "cillab_version": run.info.cillab_version}
    return {_NOT_A_NAME.sub("_", key): value for key, value in found.items() if value is not None}


def results(run: Run) -> dict[str, float]:
    """The single numbers of result.json; empty for a run that is not finished."""
    values = run.result.model_dump() if run.result is not None else {}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _free(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequestError(f"{folder} exists and is not empty. Give another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder
