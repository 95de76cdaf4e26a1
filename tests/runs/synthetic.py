"""A run folder without a model: drifting clusters in feature space, everything a probe would have written about them.

The features of old classes rotate and spread a little with every task, so that accuracy falls, NC1 rises and the
stored means fall behind. Every array and scalar of the schema is there and consistent with the others.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cillab.runs import Abilities, Protocol, RunInfo, RunWriter, step_id

SCALE = 20.0  # of the cosines of a run with class names
_HUES = np.array([[214, 72, 58], [44, 110, 180], [240, 190, 60], [60, 150, 90], [130, 80, 160], [230, 230, 225]])


def write_synthetic_run(
    path,
    tasks: int = 5,
    classes_per_task: int = 4,
    probe: int = 120,
    dim: int = 16,
    noise: bool = True,
    seed: int = 0,
    finished: bool = True,
    cams: bool = False,
    learner: str | None = None,
    text: bool = False,
    etf: bool = False,
) -> Path:
    """Write a whole run (without the last task and the result, and still `running`, if not `finished`).

    With `text` it classifies by class names in a joint space and keeps calibrated Gaussians, as `dmc-ot` does; with
    `etf` it keeps a record of its epochs, as `ncptm` does. Either leaves the noise out.
    """
    rng = np.random.default_rng(seed)
    count = tasks * classes_per_task
    order = rng.permutation(count)
    noise = noise and not (text or etf)
    learner = learner or ("dmc-ot" if text else "ncptm" if etf else "min" if noise else "simplecil")
    shows = [name for name, there in (("noise", noise), ("text", text), ("transport", text), ("etf", etf)) if there]
    info = _info(order.reshape(tasks, classes_per_task), shows, seed, learner)
    writer = RunWriter.create(path, info)

    labels = order[np.arange(probe) % count]
    task_of = info.task_of_class
    probe_tasks = np.array([task_of[int(label)] for label in labels])
    writer.probe([f"test/{i:05d}" for i in range(probe)], labels, probe_tasks, _sprites(labels, rng))

    world = _World(rng, count, dim, labels)
    joint = JointSpace(world, classes_per_task) if text else None
    stored = np.zeros((0, dim))
    rows: list[np.ndarray] = []
    seen_curve: list[float] = []
    nc_rows: list[dict] = []
    for task in range(tasks if finished else tasks - 1):
        seen = order[: (task + 1) * classes_per_task]
        for epoch in range(4):
            writer.log(
                step_id(task),
                {"train/loss": 2.2 * np.exp(-0.9 * epoch) + 0.05 * rng.random()},
                task=task,
                epoch=epoch + 1,
            )
        names = joint.names(task, seen) if joint else None
        arrays, scalars = world.look(task, seen, classes_per_task, stored, names)
        stored = arrays["means/stored"]
        rows.append(arrays["accuracy/row"])
        seen_curve.append(scalars["accuracy/seen"])
        if noise:
            arrays |= _noise(rng, task)
        if joint:
            more, numbers = joint.look(task, seen)
            arrays, scalars = arrays | more, scalars | numbers
        if etf:
            arrays |= _epochs(rng, task, classes_per_task)
        if cams:
            arrays |= _cams(rng, probe, np.isin(labels, seen))
        scalars |= {"seconds/learn": 3.0 + 0.4 * rng.random(), "seconds/probe": 0.5 + 0.1 * rng.random()}
        nc_rows.append({name: value for name, value in scalars.items() if name.startswith("nc/")})
        writer.log(step_id(task), scalars)
        writer.snapshot(step_id(task), arrays, {"train": [f"{len(seen)} classes were measured."], "test": []})
        writer.status(state="running", stage="fit", task=task, epoch=4, epochs=4, done=400, total=400, eta_s=12.0)
    if finished:
        writer.result(_result(rows, seen_curve, nc_rows))
        writer.status(state="finished", eta_s=0.0)
    return Path(path)


def _info(tasks: np.ndarray, shows: list[str], seed: int, learner: str) -> RunInfo:
    noise = "noise" in shows
    colours, charges = ["red", "blue", "gold", "green", "black"], ["star", "lion", "tower", "key", "rose"]
    names = {int(c): f"{colours[c % 5]} {charges[c // 5 % 5]} {c}" for c in tasks.ravel()}
    protocol = Protocol(
        data="synthetic",
        data_digest="0" * 12,
        split=f"B0-Inc{tasks.shape[1]}",
        split_digest=f"{seed:012d}",
        order="pilot",
        seed=seed,
        train_per_class=20,
        test_per_class=25,
        backbone="none",
        weights_digest="1" * 12,
        transform="tag",
        image_size=32,
        learner=learner,
        params={"noise_dim": 48} if noise else {},
        params_digest="2" * 12 if noise else "3" * 12,
        exemplars=False,
        class_names="text" in shows,
        precision="fp32",
        device="cpu",
        evidence="synthetic",
    )
    return RunInfo(
        cillab_version="0.1.0",
        spec={"data": "synthetic", "split": protocol.split, "learner": learner, "seed": seed},
        tasks=tasks.tolist(),
        class_names=names,
        capabilities=Abilities(summary="drifting clusters", evidence="synthetic", shows=shows, paper="none"),
        protocol=protocol,
        versions={"numpy": np.__version__},
        device="cpu",
        precision="fp32",
    )


def _sprites(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc on a striped ground per image, 40 px, colours by class."""
    y, x = np.mgrid[:40, :40]
    out = np.zeros((len(labels), 3, 40, 40), np.uint8)
    for i, label in enumerate(labels):
        ground = np.where(((x + y * (label % 3)) // 6 % 2)[None] == 0, _HUES[label % 6][:, None, None], 235)
        disc = (x - 20 - rng.integers(-4, 5)) ** 2 + (y - 20 - rng.integers(-4, 5)) ** 2 < 90
        out[i] = np.where(disc[None], _HUES[(label // 6 + 1) % 6][:, None, None], ground)
    return out


class _World:
    """Class means that move, samples around them, and what a probe measures of it."""

    def __init__(self, rng: np.random.Generator, count: int, dim: int, labels: np.ndarray) -> None:
        self.rng, self.labels, self.dim = rng, labels, dim
        self.base = rng.normal(size=(count, dim)) / np.sqrt(dim) * 3
        self.drift = rng.normal(size=(count, dim)) / np.sqrt(dim) * 0.35
        self.train = rng.normal(size=(count, 20, dim)) * 0.45
        self.test = rng.normal(size=(count, 25, dim)) * 0.6
        self.jitter = rng.normal(size=(len(labels), dim)) * 0.6

    def images(self, task: int, seen: np.ndarray, increment: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means of all classes, and the factor by which images spread around them, and training images."""
        age = np.full(len(self.base), 0.0)
        age[seen] = task - np.arange(len(seen)) // increment
        spread = 1 + 0.12 * age[:, None, None]
        means = self.base + self.drift * task
        return means, spread, means[:, None] + self.train * spread

    def look(
        self, task: int, seen: np.ndarray, increment: int, stored: np.ndarray, names: np.ndarray | None = None
    ) -> tuple[dict, dict]:
        """Everything that a probe would write; the head is the nearest stored mean, or the cosine with `names`."""
        means, spread, train = self.images(task, seen, increment)
        test = means[:, None] + self.test * spread
        features = means[self.labels] + self.jitter * spread[self.labels, 0]
        now, on_test = train[seen].mean(axis=1), test[seen].mean(axis=1)
        stored = np.concatenate([stored, now[len(stored) :]])
        weight = stored - stored.mean(axis=0)
        bias = -(stored**2).sum(axis=1) / 2 + stored @ stored.mean(axis=0)
        score = (lambda x: x @ weight.T + bias) if names is None else (lambda x: SCALE * unit(x) @ names.T)
        weight = weight if names is None else names
        logits, test_logits = score(features), score(test[seen].reshape(-1, self.dim))
        truth, guess = np.repeat(np.arange(len(seen)), test.shape[1]), test_logits.argmax(axis=1)
        confusion = np.zeros((len(seen), len(seen)), np.int32)
        np.add.at(confusion, (truth, guess), 1)
        hits = (truth == guess).reshape(task + 1, -1).mean(axis=1)
        arrays = {
            "features": features.astype(np.float16),
            "logits": logits.astype(np.float16),
            "predictions": seen[logits.argmax(axis=1)].astype(np.int32),
            "seen": seen.astype(np.int32),
            "task_of_class": (np.arange(len(seen)) // increment).astype(np.int32),
            "means/stored": stored.astype(np.float32),
            "means/now": now.astype(np.float32),
            "means/test": on_test.astype(np.float32),
            "head/weight": weight.astype(np.float32),
            **({"head/bias": bias.astype(np.float32)} if names is None else {}),
            "confusion": confusion,
            "accuracy/row": hits.astype(np.float64),
            "cosine": _cosines(now).astype(np.float16),
            "nc/within": train[seen].var(axis=1).sum(axis=1),
        }
        arrays |= _decisions(train[seen], test[seen], score, task)
        scalars = {
            "accuracy/seen": float((truth == guess).mean()),
            "accuracy/old": float(hits[:-1].mean()) if task else float("nan"),
            "accuracy/new": float(hits[-1]),
            "drift/cosine": float(1 - _row_cosines(stored, now).mean()),
            "drift/relative": float(
                np.linalg.norm(now - stored, axis=1).mean() / np.sqrt(train[seen].var(axis=1).sum(1)).mean()
            ),
        }
        for age in ("old", "new"):
            if f"calibration/{age}" in arrays:
                says, right, count = arrays[f"calibration/{age}"]
                scalars[f"calibration/{age}"] = float(np.nansum(count * np.abs(says - right)) / count.sum())
        for name in ("nme", "fresh", "fresh_then", "task_id", "within_task"):
            scalars[f"accuracy/{name}"] = float(arrays[f"accuracy/{name}"].mean())
        for side, points in (("train", train[seen]), ("test", test[seen])):
            scalars |= {f"nc/{side}/{name}": value for name, value in _collapse(points, weight, score).items()}
        return arrays, scalars


def _decisions(
    train: np.ndarray, test: np.ndarray, score: Callable[[np.ndarray], np.ndarray], task: int
) -> dict[str, np.ndarray]:
    """Other heads on the same features, right tasks, calibration and detail of the collapse; classes are [K, n, d]."""
    k, n, dim = test.shape
    flat, truth, inner = test.reshape(-1, dim), np.repeat(np.arange(k), n), train - train.mean(axis=1)[:, None]
    tasks, means = np.arange(k) // (k // (task + 1)), train.mean(axis=1)
    logits = score(flat)
    near = _nearest(flat, means)
    # Ridge on features and a one. Rows are sorted by class, so that X^T Y are the sums of classes; a larger number of
    # classes only adds blocks to X^T X, which is how the head of every earlier moment is made as well.
    x = np.concatenate([train, np.ones((k, train.shape[1], 1))], axis=2)
    sums, blocks = x.sum(axis=1), np.einsum("knd,kne->kde", x, x).cumsum(axis=0)
    flat_one = np.c_[flat, np.ones(len(flat))]

    def ridge(classes: int) -> np.ndarray:
        return np.linalg.solve(blocks[classes - 1] + 0.1 * np.eye(dim + 1), sums[:classes].T)

    fresh = (flat_one @ ridge(k)).argmax(axis=1)
    then = np.zeros(len(flat), int)  # for each image, among the classes there were when its task had been learnt
    for t in range(task + 1):
        mine = tasks[truth] == t
        then[mine] = (flat_one[mine] @ ridge(int((tasks <= t).sum()))).argmax(axis=1)
    own = np.where(tasks[None] == tasks[truth][:, None], logits, -np.inf).argmax(axis=1)
    guess, seen_by = logits.argmax(axis=1), train.reshape(-1, dim)
    agree = score(seen_by).argmax(axis=1) == _nearest(seen_by, means)

    def row(hits: np.ndarray) -> np.ndarray:
        return hits.reshape(task + 1, -1).mean(axis=1).astype(np.float64)

    covariance = np.einsum("knd,kne->de", inner, inner) / (inner.shape[0] * inner.shape[1])
    out = {
        "accuracy/nme": row(near == truth),
        "accuracy/fresh": row(fresh == truth),
        "accuracy/fresh_then": row(then == truth),
        "accuracy/task_id": row(tasks[guess] == tasks[truth]),
        "accuracy/within_task": row(own == truth),
        "nc/nc4": agree.reshape(k, -1).mean(axis=1).astype(np.float64),
        "nc/spectrum_within": np.linalg.eigvalsh(covariance)[::-1].astype(np.float32),
        "nc/axes_within": np.linalg.eigh(covariance)[1][:, ::-1].T.astype(np.float16),
    }
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1)
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    for age, mine in (("old", tasks[truth] < task), ("new", tasks[truth] == task)):
        if mine.any():
            count = np.bincount(bins[mine], minlength=15).astype(float)
            with np.errstate(invalid="ignore"):
                says = np.bincount(bins[mine], confidence[mine], 15) / count
                right = np.bincount(bins[mine], (guess == truth)[mine].astype(float), 15) / count
            out[f"calibration/{age}"] = np.stack([says, right, count])
    return out


def _nearest(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The row of `means` nearest to each row of `x`."""
    return ((means**2).sum(axis=1) - 2 * x @ means.T).argmin(axis=1)


def _cosines(means: np.ndarray) -> np.ndarray:
    unit = means - means.mean(axis=0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def _row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def _collapse(points: np.ndarray, weight: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """NC1 to NC4 by their definitions, on [K, n, d]."""
    k, n, dim = points.shape
    means = points.mean(axis=1)
    centred = means - means.mean(axis=0)
    inner = (points - means[:, None]).reshape(-1, dim)
    within, between = inner.T @ inner / (k * n), centred.T @ centred / k
    norms = np.linalg.norm(centred, axis=1)
    pairs = _cosines(means)[np.triu_indices(k, 1)]
    variance = (inner**2).sum(axis=1).reshape(k, n).mean(axis=1)
    length = (centred**2).sum(axis=1)
    gap = (length[:, None] + length - 2 * centred @ centred.T)[np.triu_indices(k, 1)]
    both = (variance[:, None] + variance[None])[np.triu_indices(k, 1)]
    flat = points.reshape(-1, dim)
    unit_w, unit_m = weight / np.linalg.norm(weight), centred / np.linalg.norm(centred)
    return {
        "nc1": float(np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / k),
        "nc1_quotient": float(np.trace(within) / np.trace(between)),
        "cdnv": float((both / (2 * gap)).mean()),
        "equinorm": float(norms.std() / norms.mean()),
        "equiangular": float(pairs.std()),
        "max_angle": float(np.abs(pairs + 1 / (k - 1)).mean()),
        "nc3": float(np.linalg.norm(unit_w - unit_m)),
        "nc4": float((score(flat).argmax(axis=1) == _nearest(flat, means)).mean()),
    }


def _noise(rng: np.random.Generator, task: int, layers: int = 6, dim: int = 8) -> dict[str, np.ndarray]:
    """Mixing weights that sum to one, similar prototypes, a dead generator at layer 3 of task 1."""
    local = np.random.default_rng(7)
    prototypes = (local.normal(size=(12, dim)) + 0.8)[: task + 1]
    unit = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    raw = np.exp(-0.4 * np.arange(task + 1)[::-1] + 0.25 * rng.normal(size=(layers, task + 1)))
    ratio = 0.02 + 0.1 * np.abs(local.normal(size=(layers, 12))[:, : task + 1]) * np.linspace(0.4, 1.6, layers)[:, None]
    dead = np.zeros((layers, task + 1), np.uint8)
    if task >= 1:
        dead[3, 1], ratio[3, 1] = 1, 0.0
    return {
        "internals/noise/weights": (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32),
        "internals/noise/similarity": (unit @ unit.T).astype(np.float32),
        "internals/noise/prototypes": prototypes.astype(np.float32),
        "internals/noise/ratio": ratio.astype(np.float32),
        "internals/noise/dead": dead,
    }


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values.clip(min=1e-12) ** exponent) @ vectors.T


def gaussian_map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A = S_o^{-1/2} (S_o^{1/2} S_n S_o^{1/2})^{1/2} S_o^{-1/2}."""
    root = _power(old, 0.5)
    return _power(old, -0.5) @ _power(root @ new @ root, 0.5) @ _power(old, -0.5)


def w2(mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray) -> float:
    """Wasserstein distance of two Gaussians."""
    root = _power(cov, 0.5)
    spread = np.trace(cov) + np.trace(other_cov) - 2 * np.trace(_power(root @ other_cov @ root, 0.5))
    return float(np.sqrt(((mean - other_mean) ** 2).sum() + max(spread, 0.0)))


class JointSpace:
    """Class names beside the images of a `_World`, and a Gaussian per class that follows them, as `dmc-ot` has it."""

    def __init__(self, world: "_World", increment: int) -> None:
        draws = np.random.default_rng(3)
        self.world, self.increment = world, increment
        self.gap = draws.normal(size=world.dim)
        self.frozen = unit(world.base + 0.9 * draws.normal(size=world.base.shape) + self.gap)
        self.means: dict[int, np.ndarray] = {}
        self.covariances: dict[int, np.ndarray] = {}

    def names(self, task: int, seen: np.ndarray) -> np.ndarray:
        """Learnt names: frozen ones that came nearer to the images, all a little further with every task."""
        means, _, _ = self.world.images(task, seen, self.increment)
        return unit(0.5 * self.frozen[seen] + (0.35 + 0.05 * task) * unit(means[seen]))

    def look(self, task: int, seen: np.ndarray) -> tuple[dict, dict]:
        """Gaussians before and after their calibration, W2 to the images, spectrum of the map, bias of the logits."""
        k, old = len(seen), seen[: task * self.increment]
        _, _, train = self.world.images(task, seen, self.increment)
        now, spread = train.mean(axis=1), [np.cov(x.T, bias=True) for x in train]
        before = {c: (self.means[c], self.covariances[c]) for c in old}
        arrays: dict[str, np.ndarray] = {
            "internals/text/prototypes": self.names(task, seen).astype(np.float32),
            "internals/text/frozen": self.frozen[seen].astype(np.float32),
        }
        if len(old):
            _, _, earlier = self.world.images(task - 1, old, self.increment)
            new = seen[len(old) :]
            then, here = (x[new].reshape(-1, self.world.dim) for x in (earlier, train))
            a = gaussian_map(np.cov(then.T), np.cov(here.T))
            for c in old:  # most of the way to where the images are
                self.means[c] = self.means[c] + 0.7 * (now[c] - self.means[c])
                self.covariances[c] = a @ self.covariances[c] @ a
            arrays["internals/transport/eigenvalues"] = np.linalg.eigvalsh(a).astype(np.float32)
            arrays["internals/text/logit_bias"] = self._bias(train[old], train[new], seen, task).astype(np.float32)
        for c in seen[len(old) :]:
            self.means[c], self.covariances[c] = now[c], spread[c]
        stages = {"": {c: (self.means[c], self.covariances[c]) for c in seen}, "_before": before}
        distances = {}
        for suffix, kept in stages.items():
            mean, factor = np.full((k, self.world.dim), np.nan), np.full((k, 8, self.world.dim), np.nan)
            distances[suffix] = np.full(k, np.nan)
            for row, c in enumerate(seen):
                if c in kept:
                    values, vectors = np.linalg.eigh(kept[c][1])
                    mean[row] = kept[c][0]
                    factor[row] = (vectors * np.sqrt(values.clip(min=0))).T[::-1][:8]
                    distances[suffix][row] = w2(*kept[c], now[c], spread[c])
            if kept:
                arrays[f"internals/gaussian/mean{suffix}"] = mean.astype(np.float32)
                arrays[f"internals/gaussian/factor{suffix}"] = factor.astype(np.float16)
                arrays[f"gaussian/w2/memory{suffix}"] = distances[suffix]
        if not len(old):
            return arrays, {}
        rows = slice(0, len(old))
        return arrays, {
            "transport/w2/memory": float(distances[""][rows].mean()),
            "transport/w2/memory_before": float(distances["_before"][rows].mean()),
            "transport/improved": float((distances[""][rows] < distances["_before"][rows]).mean()),
        }

    def _bias(self, old: np.ndarray, new: np.ndarray, seen: np.ndarray, task: int) -> np.ndarray:
        """Mean largest logit among old and new names (columns), for images of old and new classes (rows)."""
        names, count = self.names(task, seen), len(old)
        logits = [SCALE * unit(x.reshape(-1, self.world.dim)) @ names.T for x in (old, new)]
        return np.array([[z[:, :count].max(axis=1).mean(), z[:, count:].max(axis=1).mean()] for z in logits])


def _epochs(rng: np.random.Generator, task: int, increment: int) -> dict[str, np.ndarray]:
    """NC1 to NC4, pull and push by epoch; old vertices turn a little more than the closed form says."""
    count = 10 if task == 0 else 6
    fall = np.exp(-0.4 * np.arange(count))
    columns = [0.8 * fall + 0.05, 0.5 * fall + 0.1, 0.9 * fall + 0.2, 1 - 0.4 * fall, 0.5 * fall, 0.02 * fall]
    arrays = {"internals/etf/epochs": np.stack(columns, axis=1).astype(np.float32)}
    if task:
        old, every = task * increment, (task + 1) * increment
        expected = float(np.arccos(np.sqrt(every * (old - 1) / (old * (every - 1)))))
        arrays["internals/etf/turned"] = (expected + 0.02 + 0.02 * rng.random(old)).astype(np.float32)
        arrays["internals/etf/expected"] = np.array([expected], np.float32)
    return arrays


def _cams(rng: np.random.Generator, probe: int, seen: np.ndarray) -> dict[str, np.ndarray]:
    out = {"cam_mask": np.full(probe, 0.2, np.float32)}
    for target in ("true", "predicted", "difference"):
        maps = rng.random((probe, 4, 4))
        scale = maps.max(axis=(1, 2))
        out[f"cam/{target}"] = np.round(maps / scale[:, None, None] * 255).astype(np.uint8)
        out[f"cam_scale/{target}"] = scale.astype(np.float32)
        out[f"cam_floor/{target}"] = np.array(np.quantile(scale, 0.25), np.float32)
        energy = 0.35 + 0.1 * rng.normal(size=probe)
        for kind, values in (("energy", energy.clip(0, 1)), ("pointing", (rng.random(probe) < 0.6).astype(float))):
            out[f"cam_{kind}/{target}"] = np.where(seen, values, np.nan).astype(np.float32)
    return out


def _result(rows: list[np.ndarray], seen: list[float], nc: list[dict]) -> dict:
    last = len(rows) - 1
    matrix = np.full((last + 1, last + 1), np.nan)
    for t, row in enumerate(rows):
        matrix[t, : t + 1] = row
    old = range(last)
    return {
        "a_last": seen[-1],
        "a_avg": float(np.mean(seen)),
        "accuracy_seen": seen,
        "accuracy_matrix": matrix,
        "forgetting_chaudhry": np.mean([np.nanmax(matrix[j:last, j]) - matrix[last, j] for j in old]) if last else None,
        "forgetting_pilot": np.mean([np.nanmax(matrix[j:, j]) - matrix[last, j] for j in old]) if last else None,
        "bwt_gem": np.mean([matrix[last, j] - matrix[j, j] for j in old]) if last else None,
        "nc": nc,
        "seconds": {"total": 20.0 + time.process_time() % 1, "learn": 16.0, "probe": 4.0},
        "images_per_second": 900.0,
        "peak_memory_bytes": 250 * 2**20,
        "stored_floats": 4096,
        "trainable_parameters": 0,
        "passes_per_test_image": 1.0,
    }


if __name__ == "__main__":
    import sys

    print(write_synthetic_run(sys.argv[1], *(int(a) for a in sys.argv[2:])))
