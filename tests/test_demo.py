"""The recorded runs that ship: small, with thumbnails that can be seen, maps at every step and one line on each."""

from cillab.demo import LOOK_FOR, demo_runs
from cillab.runs import Run

LIMIT_BYTES = 6 * 2**20


def test_each_is_small_and_has_large_thumbnails_maps_and_one_line() -> None:
    runs = {name: Run(path) for name, path in demo_runs().items()}
    assert set(LOOK_FOR) == set(runs)
    for name, run in runs.items():
        assert sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()) <= LIMIT_BYTES, name
        assert run.probe.tile == 64, name
        for shot in map(run.snapshot, run.steps):
            assert {"cam/true", "cam/predicted", "cam/difference"} <= {*shot}, (name, shot.id)
