"""Record the demo runs that ship with the package: `python scripts/record_demo.py [--only min]`.

Ten tasks of shields, 30 training images a class, on a bundled backbone, with Grad-CAM maps, slimmed: everything that
the app shows, at most 6 MiB each. All checkpoints stay where they fit, else the last, else none. Collapse is measured
on all training images, so that stored and measured moments of a class differ by what moved and by no sampling.
"""

import argparse
import json
import shutil
import socket
import sys
import time
from pathlib import Path

from rich.console import Console

from cillab.demo import HERE
from cillab.lab import Lab, RunSpec
from cillab.lab.slim import slim
from cillab.protocol.specs import BackboneSpec, StreamSpec
from cillab.runs.files import read_json, write_record
from cillab.screen import follow, result_lines

LIMIT_BYTES = 6 * 2**20
EACH = 30  # training images of a class, as in preset:field-shields
# A narrow noise path and expansion, so that the state fits in the package; no augmentation: see preset:shields. The
# rest makes noise large enough to be seen: under SGD a generator learns at w^2 times the rate, with w about 1/t after t
# tasks (w scales its output and its gradient), under Adam at w times the rate. On held-out training images (40 a class,
# 39 steps a task) 46 % of the answers change without noise, 37 % with the newest generator alone.
NOISY = {
    "noise_dim": 44, "expansion": 1024, "augment": "none", "optimiser": "adam", "weight_decay": 0.0, "batch_size": 24,
    "lr": 1e-3,
}  # fmt: skip
SPECS = {
    name: RunSpec(
        stream=StreamSpec(train_per_class=EACH),
        backbone=BackboneSpec(name="bundled:clip" if name == "dmc-ot" else "bundled:vit", precision="fp32"),
        learner=name,
        cams=True,
        probe_points=200,
        train_probe_per_class=EACH,
        params=params,
    )
    for name, params in (
        ("min", NOISY),
        ("ncptm", {}),
        # ten times the rate of the default: the encoder moves so far that there is something to calibrate
        ("dmc-ot", {"lr": 1e-3}),
        ("finetune", {"epochs": 5}),
        ("dualprompt", {}),
        ("slca", {"fit.epochs": 6, "fit.batch_size": 32}),
    )
}


def record(name: str, console: Console) -> Path:
    """Make one run beside its place."""
    aside = HERE / f".{name}.new"
    shutil.rmtree(aside, ignore_errors=True)
    began = time.perf_counter()
    lab = Lab.from_spec(SPECS[name].with_(out=str(aside)))
    follow(lab, console)
    for line in result_lines(lab):
        console.print(line)
    size = slim(aside, keep="all")
    for keep in ("last", "none"):  # of a copy of the whole backbone none: recorded pictures stay, live questions go
        size = slim(aside, keep=keep) if size > LIMIT_BYTES else size
    console.print(f"{name}: {size / 1e6:.2f} MB in {time.perf_counter() - began:.0f} s")
    if size > LIMIT_BYTES:
        sys.exit(f"{name} has {size} bytes, the limit is {LIMIT_BYTES}: it stays in {aside}.")
    portable(aside, name)
    return aside


def portable(folder: Path, name: str) -> None:
    """Take out what is true of one machine only: where the folder was, what the machine is called, who held the run."""
    shutil.rmtree(folder / "control")
    path = folder / "spec.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(str(folder), f"runs/{name}"), encoding="utf-8")
    for file, old, new in (
        ("run.json", str(folder), f"runs/{name}"),
        ("status.json", f'"host": "{socket.gethostname()}"', '"host": "recorded"'),
    ):
        values = json.dumps(read_json(folder / file)).replace(old, new)
        write_record(folder / file, json.loads(values))  # with a checksum of what it says now


def main() -> None:
    """Record what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(SPECS), action="append")
    made = {name: record(name, Console()) for name in parser.parse_args().only or SPECS}
    for name, aside in made.items():  # at the end: a changed file would make the commit of the next run "dirty"
        shutil.rmtree(HERE / name, ignore_errors=True)
        aside.rename(HERE / name)


if __name__ == "__main__":
    main()
