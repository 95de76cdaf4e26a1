"""Record the demo runs that ship with the package: `python scripts/record_demo.py [--only min]`.

Ten tasks of shields on bundled:vit with Grad-CAM maps, slimmed: everything that the app shows, at most 6 MB each.
"""

import argparse
import shutil
import socket
import sys
import time
from pathlib import Path

from rich.console import Console

from cillab.demo import HERE
from cillab.lab import Lab, RunSpec
from cillab.lab.slim import slim
from cillab.protocol.specs import BackboneSpec
from cillab.screen import follow, result_lines

LIMIT_BYTES = 6_000_000
SPECS = {
    name: RunSpec(
        backbone=BackboneSpec(name="bundled:clip" if name == "dmc-ot" else "bundled:vit", precision="fp32"),
        learner=name,
        cams=True,
        probe_points=200,
        params=params,
    )
    for name, params in (
        # a narrow noise path and expansion, so that the state fits in the package; no augmentation: see preset:shields
        ("min", {"noise_dim": 48, "expansion": 1024, "augment": "none"}),
        ("ncptm", {}),
        ("dmc-ot", {}),
        ("finetune", {"epochs": 3}),
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
    size = slim(aside)
    if size > LIMIT_BYTES:  # a copy of the whole backbone, say: recorded pictures stay, live questions go
        size = slim(aside, checkpoint=False)
    console.print(f"{name}: {size / 1e6:.2f} MB in {time.perf_counter() - began:.0f} s")
    if size > LIMIT_BYTES:
        sys.exit(f"{name} has {size} bytes, the limit is {LIMIT_BYTES}: it stays in {aside}.")
    portable(aside, name)
    return aside


def portable(folder: Path, name: str) -> None:
    """Take out what is true of one machine only: where the folder was, and what the machine is called."""
    for file, old, new in (
        ("run.json", str(folder), f"runs/{name}"),
        ("spec.yaml", str(folder), f"runs/{name}"),
        ("status.json", f'"host": "{socket.gethostname()}"', '"host": "recorded"'),
    ):
        path = folder / file
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


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
