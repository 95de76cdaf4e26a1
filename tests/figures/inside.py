"""Arrays that methods show of themselves, added to a synthetic run: a pool, rows that are aligned, anchors."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def with_internals(path: Path, prompts: int = 6, layers: int = 4) -> Path:
    """The run at `path`, every step of it with all internals that have a figure of their own."""
    rng = np.random.default_rng(3)
    counts, keys = np.zeros(prompts), rng.normal(size=(prompts, 8))
    for task, file in enumerate(sorted((path / "steps").glob("*.safetensors"))):
        arrays = load_file(file)
        means = arrays["means/now"].astype(np.float64)
        count, dim = means.shape
        new = rng.multinomial(40, rng.dirichlet(np.full(prompts, 0.5)))
        counts, keys = counts + new, keys + 0.1 * rng.normal(size=keys.shape)
        head = means - means.mean(axis=0)
        longer = np.where(arrays["task_of_class"] == task, 2.0, 1.0)[:, None]
        similar = 0.4 + 0.5 * np.exp(-np.abs(np.subtract.outer(np.arange(task + 1), np.arange(task + 1))))
        np.fill_diagonal(similar, 1)
        anchors = np.zeros((count, dim))  # a simplex in the first `count` dimensions
        anchors[:, :count] = np.sqrt(count / (count - 1)) * (np.eye(count) - 1 / count)
        save_file(arrays | {name: np.array(value, np.float32, order="C") for name, value in {
            "internals/prompts/chosen": counts, "internals/prompts/keys": keys,
            "internals/lowrank/magnitude": rng.random((layers, task + 1)) + 0.2,
            "internals/lowrank/rank": rng.integers(1, 9, (layers, task + 1)),
            "internals/align/before": head * longer + 0.2 * rng.normal(size=head.shape), "internals/align/after": head,
            "internals/adapters/similarity": similar, "internals/anchors/rows": anchors,
            "internals/ridge/gamma": np.array(10.0 ** (task - 1)),
        }.items()}, file)  # fmt: skip
    return path
