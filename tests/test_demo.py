"""The recorded runs that ship: small, with thumbnails that can be seen, maps at every step and one line on each."""

import numpy as np
import pytest

from cillab.demo import LOOK_FOR, demo_runs
from cillab.runs import Run
from cillab.runs.schema import is_scalar

LIMIT_BYTES = 6 * 2**20


def test_each_is_small_and_has_large_thumbnails_maps_and_one_line() -> None:
    runs = {name: Run(path) for name, path in demo_runs().items()}
    assert set(LOOK_FOR) == set(runs)
    for name, run in runs.items():
        assert sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()) <= LIMIT_BYTES, name
        assert run.probe.tile == 64, name
        assert not [scalar for scalar in run.metrics() if not is_scalar(scalar)], name
        for shot in map(run.snapshot, run.steps):
            assert {"cam/true", "cam/predicted", "cam/difference"} <= {*shot}, (name, shot.id)


def test_alignment_can_be_seen() -> None:
    run = Run(demo_runs()["slca"])
    shot, labels = run.snapshot(run.steps[-1]), np.asarray(run.probe.labels)
    seen, features = np.asarray(shot["seen"]), np.asarray(shot["features"], np.float64)
    right = {
        when: (seen[(features @ np.asarray(shot[f"internals/align/{when}"]).T).argmax(axis=1)] == labels).mean()
        for when in ("before", "after")
    }
    assert f"{right['before']:.0%}".replace("%", " %") in LOOK_FOR["slca"]
    assert right["after"] > right["before"] + 0.15
    assert {f"cam_floor/{target}" for target in ("true", "predicted", "difference")} <= {*shot}


def test_calibration_can_be_seen() -> None:
    run = Run(demo_runs()["dmc-ot"])
    far = [
        [np.nanmean(np.asarray(shot[f"gaussian/w2/{name}"], np.float64)) for name in ("memory_before", "memory")]
        for shot in map(run.snapshot, run.steps[1:])
    ]
    assert all(after < 0.85 * before for before, after in far)
    before, after = far[2]
    assert f"{before:.1f} to {after:.1f} at task 4" in LOOK_FOR["dmc-ot"]


def test_another_head_has_more() -> None:
    run = Run(demo_runs()["finetune"])
    for name in ("seen", "nme"):
        share = run.metrics().over(f"accuracy/{name}", run.steps)[-1]
        assert f"{share:.0%}".replace("%", " %") in LOOK_FOR["finetune"]


def test_prompts_are_chosen_as_it_says() -> None:
    """Counts are kept from task to task: what a task adds to the newest are its own images."""
    run = Run(demo_runs()["dualprompt"])
    counts = [np.asarray(run.snapshot(step)["internals/prompts/chosen"]) for step in run.steps]
    own = sum(float(count[-1]) for count in counts) / counts[-1].sum()
    assert f"{own:.0%}".replace("%", " %") in LOOK_FOR["dualprompt"]
    assert counts[-1][-1] == 0


@pytest.mark.slow
def test_noise_matters() -> None:
    """Without any noise, or with the newest generator alone, at least a fifth of the answers are others."""
    from cillab.lab.reopen import reopen
    from cillab.lab.whatif import WhatIf

    again = reopen(demo_runs()["min"], 9)
    asked = WhatIf(again.learner, again.probe_images.images, again.probe_images.labels)
    work = asked.measure()
    while len(asked.known) < 3:  # as learnt, all off, the newest alone come first
        next(work)
    learnt, off, newest = (asked.reply(factors).classes for factors in asked.plan()[:3])
    labels = asked.labels.numpy()
    assert f"{(learnt != off).mean():.0%}".replace("%", " %") in LOOK_FOR["min"]
    assert (learnt != newest).mean() > 0.2
    assert f"{(learnt == labels).mean():.0%}".replace("%", " %") in LOOK_FOR["min"]
    assert f"{(off == labels).mean():.0%}".replace("%", " %") in LOOK_FOR["min"]
