"""Joint UMAP of a run as a job of its own: `python -m cillab.plane.joint RUN`. Its folder is all that connects them.

Writes `projections/<key>.safetensors` (int16 coordinates of every probe point at every step, and how far to trust
them) and, while it works, `projections/<key>.json` with the stage and the share done. The key names everything that the
layout depends on, so a run that went on gets a new one. A `home` other than the run's own folder keeps recorded runs,
which ship with the package, as they are.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int16

from cillab.core.errors import CillabError, RunError, one_line
from cillab.plane.box import box, dequantise, quantise
from cillab.plane.laying import Plane, probe_features
from cillab.plane.together import joint_umap
from cillab.plane.trust import displacement_of_unmoved, quality
from cillab.runs import Run
from cillab.runs.arrays import Arrays
from cillab.runs.files import damaged, read_json, write_json
from cillab.runs.run import is_alive
from cillab.runs.writer import store_derived

_METHOD = "images once"  # changes whenever the same settings give another layout
_NEIGHBOURS = 10  # for the quality, apart from those of the layout


@dataclass(frozen=True)
class Settings:
    """What the layout depends on, besides the run."""

    neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 1993


@dataclass(frozen=True, eq=False)
class Layout:
    """Every probe point at every step in one picture, and how far it can be trusted."""

    steps: tuple[str, ...]
    whole: Int16[np.ndarray, "step point 2"]  # -32767 = low end of `ranges`, 32767 = high end
    ranges: Float64[np.ndarray, "2 2"]
    trustworthiness: Float64[np.ndarray, " step"]
    neighbour_overlap: Float64[np.ndarray, " step"]
    displacement: Float64[np.ndarray, " step"]  # of points that hardly moved since the step before; NaN for the first

    @property
    def points(self) -> Float32[np.ndarray, "step point 2"]:
        """Coordinates, to 1/65534 of the range."""
        return dequantise(self.whole, self.ranges)

    @property
    def plane(self) -> Plane:
        """The same, as the player takes it: seen from the middle."""
        return Plane(self.steps, self.points - self.points.mean(axis=(0, 1)))

    @property
    def sentence(self) -> str:
        """The quality in words, to be printed with every picture of it."""
        text = f"Joint UMAP of {len(self.steps)} steps: trustworthiness {self.trustworthiness.mean():.2f},"
        text += f" {100 * self.neighbour_overlap.mean():.0f} % of the {_NEIGHBOURS} nearest neighbours are kept"
        if np.isfinite(self.displacement).any():
            text += f"; points whose features hardly moved are shifted by {np.nanmean(self.displacement):.2f} of the"
            text += " picture's spread from step to step"
        return text + "."


@dataclass(frozen=True)
class State:
    """Where the job is."""

    stage: str
    share: float  # of the whole, in [0, 1]
    error: str | None = None
    pid: int | None = None

    @property
    def running(self) -> bool:
        """Is it at work, as far as this machine can tell?"""
        return self.error is None and self.share < 1 and (self.pid is None or is_alive(self.pid))


def key_of(run: Run, settings: Settings | None = None) -> str:
    """Names the layout: method, settings, steps, and the size and time of each snapshot."""
    files = [(run.path / "steps" / f"{step}.safetensors").stat() for step in run.steps]
    stated = [_METHOD, asdict(settings or Settings()), run.steps, [(f.st_size, f.st_mtime_ns) for f in files]]
    return f"umap-{hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:12]}"


def read(run: Run, settings: Settings | None = None, home: Path | None = None) -> Layout | None:
    """The finished layout, or None.

    Raises:
        RunError: its file is damaged.
    """
    path = (home or run.path) / "projections" / f"{key_of(run, settings)}.safetensors"
    if not path.is_file():
        return None
    arrays = Arrays(path)
    try:
        numbers = (arrays[n] for n in ("whole", "ranges", "trustworthiness", "neighbour_overlap", "displacement"))
        return Layout(run.steps, *numbers)
    except KeyError as error:
        raise damaged(arrays.path, f"it lacks {error}") from error


def state(run: Run, settings: Settings | None = None, home: Path | None = None) -> State | None:
    """What the job said last, or None if none was started."""
    path = _state_path(run, settings, home)
    return State(**read_json(path)) if path.is_file() else None


def start(run: Run, settings: Settings | None = None, home: Path | None = None) -> subprocess.Popen[bytes]:
    """Compute the layout in a new process; watch it with `state`, read it with `read`.

    Raises:
        RunError: the run has no step yet.
    """
    if not run.steps:
        raise RunError(f"{run.path} has no step yet.")
    given = settings or Settings()
    path = _state_path(run, given, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(State("starting", 0.0)))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(given).items()]
    options += [f"--home={home}"] if home else []
    command = [sys.executable, "-m", "cillab.plane.joint", str(run.path), *options]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]


def stop(run: Run, settings: Settings | None = None, home: Path | None = None) -> None:
    """End the job, if it is at work, and forget it: the layout can be asked for again."""
    said = state(run, settings, home)
    if said is None or not said.running or said.pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(said.pid, signal.SIGTERM)
    _state_path(run, settings, home).unlink(missing_ok=True)


def compute(
    run: Run,
    settings: Settings | None = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
    home: Path | None = None,
) -> Layout:
    """Lay out all steps together, measure the quality of each step, and store it.

    Raises:
        RunError: no step yet, or steps of different feature widths.
        InvalidRequestError: umap-learn is not installed, or a feature is not finite.
    """
    steps, given = run.steps, settings or Settings()
    features = probe_features(run, [run.snapshot(step) for step in steps])
    layouts = joint_umap(
        features,
        neighbours=given.neighbours,
        min_dist=given.min_dist,
        seed=given.seed,
        progress=lambda stage, share: progress(stage, 0.9 * share),
    )
    progress("measuring the quality", 0.9)
    layout = _measured(steps, features, layouts)
    names = ("whole", "ranges", "trustworthiness", "neighbour_overlap", "displacement")
    store_derived(home or run.path, "projections", key_of(run, given), {name: getattr(layout, name) for name in names})
    progress("done", 1.0)
    return layout


def _measured(steps: Sequence[str], features: list[np.ndarray], layouts: list[np.ndarray]) -> Layout:
    points = np.stack(layouts)
    ranges = box(points)
    near = min(_NEIGHBOURS, (len(features[0]) - 1) // 2)
    found = [quality(x, y, near) for x, y in zip(features, layouts, strict=True)]
    shifts = [np.nan]
    for index in range(1, len(steps)):
        was, now = index - 1, index
        shifts.append(displacement_of_unmoved(features[was], features[now], layouts[was], layouts[now]))
    return Layout(
        tuple(steps),
        quantise(points, ranges),
        ranges,
        np.array([q.trustworthiness for q in found]),
        np.array([q.neighbour_overlap for q in found]),
        np.array(shifts),
    )


def _state_path(run: Run, settings: Settings | None, home: Path | None = None) -> Path:
    return (home or run.path) / "projections" / f"{key_of(run, settings)}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """The job: everything it has to say goes into its state file."""
    parser = argparse.ArgumentParser(description="Joint UMAP of all steps of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--home", type=Path, default=None)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    run, settings = Run(options.run), Settings(options.neighbours, options.min_dist, options.seed)
    path, said = _state_path(run, settings, options.home), State("starting", 0.0, pid=os.getpid())

    def say(stage: str, share: float) -> None:
        nonlocal said
        if stage != said.stage or share - said.share >= 0.01:
            said = State(stage, share, pid=said.pid)
            write_json(path, asdict(said))

    try:
        compute(run, settings, say, options.home)
    except (CillabError, ValueError, MemoryError) as error:
        write_json(path, asdict(State("failed", said.share, one_line(error) or type(error).__name__)))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
