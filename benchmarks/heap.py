"""Memory that a run keeps against memory that goes back to the system after every step.

    python benchmarks/heap.py [--rounds 5] [--steps 4] [--images 48] [--model deit_tiny_patch16_224] [--size 160]

A process trains all weights of one of timm's ViTs on random images in fp32, one thread, once as glibc has it and once
after `cillab.core.heap.keep`, which a run calls when it opens. A second pair of processes forwards the images only.
Processes take turns. The ratios are medians over rounds of images per CPU second, so the system's share counts and a
neighbour does not; page faults are of one step.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys

from cillab.core import heap


def measure(given: argparse.Namespace, kept: bool, train: bool) -> dict[str, float]:
    """In this process: images per CPU second, page faults of a step, peak MB."""
    import timm  # noqa: PLC0415 - not in the parent
    import torch  # noqa: PLC0415

    if kept and not heap.keep():
        sys.exit("No glibc here, or its variables are set: nothing to compare.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = timm.create_model(given.model, img_size=given.size)
    pixels = torch.randn(given.images, 3, given.size, given.size)
    weights = list(model.parameters())
    for weight in weights:
        weight.requires_grad_(train)

    def step() -> None:
        with torch.set_grad_enabled(train):
            features = model(pixels)
        if train:
            features.square().mean().backward()
            for weight in weights:
                weight.grad = None

    step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(given.steps):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "images": given.images * given.steps / seconds,
        "faults": (after.ru_minflt - before.ru_minflt) / given.steps,
        "peak": after.ru_maxrss / 1024,
    }


def apart(kept: bool, train: bool) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", f"{kept:d}{train:d}"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kept against returned memory.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of one measurement")
    parser.add_argument("--images", type=int, default=48, help="of a step")
    parser.add_argument("--model", default="deit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given, given.child[0] == "1", given.child[1] == "1")))
        return
    out = {}
    for train in (True, False):
        rounds = [(apart(False, train), apart(True, train)) for _ in range(given.rounds)]
        medians = [{name: statistics.median(r[kept][name] for r in rounds) for name in rounds[0][0]} for kept in (0, 1)]
        out["training" if train else "extraction"] = {
            "ratio": round(statistics.median(after["images"] / before["images"] for before, after in rounds), 3),
            "pairs": [round(after["images"] / before["images"], 2) for before, after in rounds],
            "faults a step": [round(m["faults"]) for m in medians],
            "peak MB": [round(m["peak"]) for m in medians],
        }
    print(json.dumps({"machine": platform.machine(), **out}, indent=1))


if __name__ == "__main__":
    main()
