"""All collapse metrics on 50,000 x 768 features of 100 classes, beside the formulas written down naively.

    python benchmarks/geometry.py [--images 50000] [--dim 768] [--classes 100] [--repeats 5]

Prints one JSON object: median and spread of the seconds (by the clock, and of processor time over all threads, which
a busy machine disturbs less), the ratio to the naive formulas in the same run, and the peak memory above the features.
The naive formulas are two passes over float64 features with the D x D pseudo-inverse; they answer only NC1, equinorm,
angles and NC3, and must agree. Memory is the peak resident size of a fresh process that runs once, minus its size just
before (Linux).

`other_head`: another head on a probe of 2,000 images, made from moments that are there already.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cillab.geometry.collapse import Collapse, collapse
from cillab.geometry.heads import Statistics, blended
from cillab.geometry.moments import Moments
from cillab.geometry.nc3 import nc4

import numpy as np
from threadpoolctl import threadpool_info

PROBE = 2_000


def data(images: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, images)
    means = generator.standard_normal((classes, dim), dtype=np.float32)
    features = generator.standard_normal((images, dim), dtype=np.float32)
    features += means[labels]
    return features, labels, means, np.zeros(classes)


def ours(features: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Collapse:
    classes = range(len(weight))
    moments = Moments.of(features, labels)
    return collapse(
        moments,
        weight,
        bias,
        head_classes=classes,
        features=features,
        labels=labels,
        task_of_class={c: c * 10 // len(weight) for c in classes},
        data="train",
    )


def naive(features: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> dict[str, float]:
    x, k = features.astype(np.float64), len(weight)
    means = np.stack([x[labels == c].mean(axis=0) for c in range(k)])
    centred = means - means.mean(axis=0)
    within = np.zeros((x.shape[1], x.shape[1]))
    for c in range(k):
        residual = x[labels == c] - means[c]
        within += residual.T @ residual
    within /= len(x)
    between = centred.T @ centred / k
    norms = np.linalg.norm(centred, axis=1)
    cosines = (centred @ centred.T / norms[:, None] / norms)[~np.eye(k, dtype=bool)]
    w, m = weight / np.linalg.norm(weight.astype(np.float64)), centred / np.linalg.norm(centred)
    return {
        "nc1_pinv": float(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / k),
        "nc2_equinorm": float(norms.std() / norms.mean()),
        "nc2_equiangularity": float(cosines.std()),
        "nc2_maximal_angle": float(np.abs(cosines + 1 / (k - 1)).mean()),
        "nc3_distance": float(np.linalg.norm(w - m)),
    }


def seconds(function: Callable[..., object], arguments: tuple[np.ndarray, ...], repeats: int) -> dict[str, float]:
    function(*arguments)  # warm-up
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        function(*arguments)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "median_s": statistics.median(wall),
        "min_s": min(wall),
        "max_s": max(wall),
        "cpu_median_s": statistics.median(cpu),
        "cpu_min_s": min(cpu),
    }


def other_head(shape: tuple[int, int, int], repeats: int) -> dict[str, object]:
    """Moments once, then a head of each kind with its scores, as in the Head lab."""
    features, labels, *_ = data(PROBE, *shape[1:])
    known = Statistics.measured(Moments.of(features, labels))
    asked = {
        kind: seconds(lambda kind=kind: known.head(kind, 0.1).scores(features), (), repeats)
        for kind in ("cosine", "euclidean", "ridge", "lda", "etf")
    }
    asked["blend"] = seconds(lambda: blended(known.head("ridge"), known.means, 0.5).scores(features), (), repeats)
    return {
        "prepare": seconds(lambda: Statistics.measured(Moments.of(features, labels)), (), repeats),
        "ask": asked,
        "slowest_median_ms": 1000 * max(times["median_s"] for times in asked.values()),
    }


def peak_extra_bytes(function: Callable[..., object], shape: tuple[int, int, int]) -> int:
    """Peak resident memory of one call above what the features take, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_measure, args=(function, shape, queue))
    child.start()
    extra = queue.get()
    child.join()
    return extra


def _measure(function: Callable[..., object], shape: tuple[int, int, int], queue: "multiprocessing.Queue[int]") -> None:
    arguments = data(*shape)
    small = tuple(a[: 10 * shape[2]] if len(a) == shape[0] else a for a in arguments)
    function(*small)  # loads the libraries
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that making the features left (Linux)
    before = _resident_peak_bytes()
    function(*arguments)
    queue.put(_resident_peak_bytes() - before)


def _resident_peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    parser = argparse.ArgumentParser(description="All collapse metrics against the naive formulas.")
    for name, default in (("images", 50_000), ("dim", 768), ("classes", 100), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    shape = (options.images, options.dim, options.classes)
    arguments = data(*shape)
    fast, slow = seconds(ours, arguments, options.repeats), seconds(naive, arguments, options.repeats)
    result, reference = ours(*arguments), naive(*arguments)
    probe = tuple(a[:PROBE] if len(a) == shape[0] else a for a in arguments)
    features, _, weight, bias = probe
    print(
        json.dumps(
            {
                "shape": dict(zip(("images", "dim", "classes"), shape, strict=True)),
                "machine": {"cpu": platform.processor() or platform.machine(), "blas": threadpool_info()},
                "numpy": np.__version__,
                "all_metrics": fast,
                "moments_only": seconds(lambda f, y, *_: Moments.of(f, y), arguments, options.repeats),
                "naive": slow,
                "ratio_to_naive": fast["median_s"] / slow["median_s"],
                "ratio_to_naive_cpu": fast["cpu_median_s"] / slow["cpu_median_s"],
                "largest_relative_difference": max(
                    abs(getattr(result, name) - value) / abs(value) for name, value in reference.items()
                ),
                "peak_extra_mib": peak_extra_bytes(ours, shape) / 2**20,
                "peak_extra_naive_mib": peak_extra_bytes(naive, shape) / 2**20,
                "features_mib": arguments[0].nbytes / 2**20,
                "other_head": other_head(shape, 4 * options.repeats),
                "probe_2000": {
                    "all_metrics": seconds(ours, probe, options.repeats),
                    "head_and_nearest_mean": seconds(
                        lambda f, w, b: nc4(f, w, b, w), (features, weight, bias), options.repeats
                    ),
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
