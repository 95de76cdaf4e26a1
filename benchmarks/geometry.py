"""All collapse metrics on 50,000 x 768 features of 100 classes, beside the formulas written down naively.

    python benchmarks/geometry.py [--images 50000] [--dim 768] [--classes 100] [--repeats 5]

Prints one JSON object: median and spread of the seconds (by the clock, and of processor time over all threads, which
a busy machine disturbs less), the ratio to the naive formulas in the same run, and the peak memory above the features.
The naive formulas are two passes over float64 features with the D x D pseudo-inverse; they answer only NC1, equinorm,
angles and NC3, and must agree. Memory is the peak resident size of a fresh process that runs once, minus its size just
before (Linux).

`what_if`: live questions on a probe of 2,000 images, prepared once, beside recomputing everything for each answer.
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
from cillab.geometry.moments import Moments
from cillab.geometry.nc3 import nc4
from cillab.geometry.whatif import WhatIf

import torch
from torch import Tensor

PROBE = 2_000


def data(images: int, dim: int, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (images,), generator=generator)
    means = torch.randn(classes, dim, generator=generator)
    features = torch.randn(images, dim, generator=generator).add_(means[labels])
    return features, labels, means, torch.zeros(classes)


def ours(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Collapse:
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


def naive(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> dict[str, float]:
    x, k = features.double(), len(weight)
    means = torch.stack([x[labels == c].mean(dim=0) for c in range(k)])
    centred = means - means.mean(dim=0)
    within = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for c in range(k):
        residual = x[labels == c] - means[c]
        within += residual.T @ residual
    within /= len(x)
    between = centred.T @ centred / k
    norms = centred.norm(dim=1)
    cosines = (centred @ centred.T / norms[:, None] / norms)[~torch.eye(k, dtype=torch.bool)]
    w, m = weight.double() / weight.double().norm(), centred / centred.norm()
    return {
        "nc1_pinv": float((within @ torch.linalg.pinv(between, rtol=1e-10)).trace() / k),
        "nc2_equinorm": float(norms.std(correction=0) / norms.mean()),
        "nc2_equiangularity": float(cosines.std(correction=0)),
        "nc2_maximal_angle": float((cosines + 1 / (k - 1)).abs().mean()),
        "nc3_distance": float((w - m).norm()),
    }


def seconds(function: Callable[..., object], arguments: tuple[Tensor, ...], repeats: int) -> dict[str, float]:
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


def what_if(shape: tuple[int, int, int], repeats: int) -> dict[str, object]:
    """Preparing once, then answering: changed weights, ridge, blend with the ETF, temperature, ten classes dropped."""
    features, labels, weight, bias = data(PROBE, *shape[1:])
    classes = tuple(range(shape[2]))
    prepared = WhatIf(features, labels, classes, weight, bias)
    prepared.ask(gamma=1.0, blend=0.5)  # the eigendecomposition and the nearest ETF, once
    questions = {
        "weights": {"weight": 1.1 * weight, "bias": bias},
        "ridge": {"gamma": 10.0},
        "blend": {"blend": 0.5},
        "temperature": {"temperature": 2.0},
        "dropped": {"dropped": classes[:10]},
    }
    asked = {name: seconds(lambda q=q: prepared.ask(**q), (), repeats) for name, q in questions.items()}
    slow = seconds(ours, (features, labels, weight, bias), repeats)
    answer, found = prepared.ask(), ours(features, labels, weight, bias)
    pairs = ((answer.nc1, found.nc1_pinv), (answer.nc3_distance, found.nc3_distance), (answer.nc4, found.nc4_agreement))
    return {
        "prepare": seconds(lambda: WhatIf(features, labels, classes, weight, bias), (), repeats),
        "ask": asked,
        "slowest_median_ms": 1000 * max(times["median_s"] for times in asked.values()),
        "recompute_all": slow,
        "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in pairs),
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
                "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
                "torch": torch.__version__,
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
                "what_if": what_if(shape, 4 * options.repeats),
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
