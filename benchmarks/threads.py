"""Waiting threads that sleep against waiting threads that spin: alone on the machine, and beside other work.

    python benchmarks/threads.py [--seconds 6] [--rounds 3]

A process forwards the bundled ViT on random images and counts. It does so alone, beside a second copy of itself (two
runs, a sweep with two jobs, the app's server beside its own training) and beside one process of plain Python per two
cores (a browser). Every case is measured with OpenMP's own choice (`spinning`) and with `OMP_WAIT_POLICY=passive`,
which `cillab` chooses when it is imported; the cases take turns, and the result is the ratio of the medians. Alone,
passive may cost at most 3 %.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOOP = """
import sys, time
import cillab
import torch
from cillab.backbones import make_backbone
backbone = make_backbone("bundled:vit", precision="fp32")
ready = backbone.pixels(torch.zeros(64, 3, 64, 64, dtype=torch.uint8))
with torch.no_grad():
    backbone.module(ready)
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < float(sys.argv[1]):
        backbone.module(ready)
        done += len(ready)
print(done / (time.perf_counter() - began), flush=True)
"""
POLICIES = {"spinning": None, "passive": "passive"}


def started(policy: str | None, seconds: float) -> subprocess.Popen[str]:
    """A loop that has loaded and waits for a line. An empty policy is a choice, so that cillab makes none."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy or ""}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-c", LOOP, str(seconds)]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def images_per_second(policy: str | None, seconds: float, copies: int = 1) -> float:
    """Mean over `copies` loops that run at the same time."""
    loops = [started(policy, seconds) for _ in range(copies)]
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.flush()
    return statistics.mean(float(loop.communicate()[0]) for loop in loops)


@contextmanager
def busy() -> Iterator[None]:
    """One process of plain Python for every two cores."""
    count = max(1, (os.cpu_count() or 1) // 2)
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(case: str, policy: str | None, seconds: float) -> float:
    if case == "beside a busy process":
        with busy():
            return images_per_second(policy, seconds)
    return images_per_second(policy, seconds, copies=2 if case == "two loops" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Passive against spinning threads.")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cases = ("alone", "two loops", "beside a busy process")
    found: dict[tuple[str, str], list[float]] = {(case, name): [] for case in cases for name in POLICIES}
    for _ in range(given.rounds):
        for (case, name), values in found.items():
            values.append(measure(case, POLICIES[name], given.seconds))
    rows = {
        case: {name: round(statistics.median(found[case, name]), 1) for name in POLICIES}
        | {"ratio": round(statistics.median(found[case, "passive"]) / statistics.median(found[case, "spinning"]), 3)}
        for case in cases
    }
    print(json.dumps({"cores": os.cpu_count(), "machine": platform.machine(), "images_per_second": rows}, indent=1))


if __name__ == "__main__":
    main()
