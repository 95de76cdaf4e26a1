"""`sweep --engine ray`: what a run asks a cluster for, on a pretended one; outcomes and an early end on a real one."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cillab.core.errors import InvalidRequestError
from cillab.lab import sweep as lab
from cillab.lab.spec import RunSpec
from cillab.runs import Run


class FakeRay(SimpleNamespace):
    """A cluster that does every task at once and notes the GPUs that it asked for."""

    def __init__(self, gpus: float) -> None:
        super().__init__(asked=[], gpus=gpus)

    def init(self, **_: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0} | ({"GPU": self.gpus} if self.gpus else {})

    def remote(self, act: Any) -> Any:
        def options(num_cpus: int, num_gpus: float) -> SimpleNamespace:
            self.asked.append((num_cpus, num_gpus))
            return SimpleNamespace(remote=act)

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[Any]) -> tuple[list[Any], list[Any]]:
        return waiting[-1:], waiting[:-1]

    def get(self, ready: Any) -> Any:
        return ready


@pytest.mark.parametrize(("gpus", "asked"), [(0, [(3, 0), (3, 0)]), (4, [(3, 1), (3, 0)])])
def test_a_run_asks_for_a_gpu_where_there_is_one_and_it_may_use_it(
    gpus: int, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(gpus)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(lab, "_done_elsewhere", lambda spec, folder, threads: spec.backbone.device)
    specs = [RunSpec(), RunSpec(device="cpu")]
    assert sorted(lab.sweep(specs, "ray", threads=3)) == ["auto", "cpu"]  # pyright: ignore[reportArgumentType]
    assert ray.asked == asked


def test_an_address_needs_ray() -> None:
    with pytest.raises(InvalidRequestError, match="'head:6379' belongs to engine 'ray'"):
        next(lab.sweep([RunSpec()], address="head:6379"))


@pytest.mark.slow
def test_runs_on_a_real_cluster_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'cillab[ray]'")
    monkeypatch.chdir(tmp_path)  # `out` is relative, as in most sweep files
    try:
        ray.init(log_to_driver=False, include_dashboard=False, num_cpus=2)
    except Exception as error:  # its agents have 15 s to come up
        pytest.skip(f"Ray does not start on this machine: {error}")
    small = {"data": "digits", "split": "B0-Inc5", "train_per_class": 5, "test_per_class": 5, "probe_points": 10}
    specs = [RunSpec.of({**small, "seed": seed, "out": f"runs/{seed}"}) for seed in (1, 2)]
    specs.append(RunSpec.of({**small, "data": "folder:nowhere", "out": "runs/3"}))
    try:
        outcomes = {one.path.name: one for one in lab.sweep(specs, "ray", threads=1)}
        assert {name: one.state for name, one in outcomes.items()} == {"1": "finished", "2": "finished", "3": "failed"}
        assert "nowhere" in outcomes["3"].note
        assert all((tmp_path / "runs" / name / "result.json").is_file() for name in "12")
        long = RunSpec.of({**small, "learner": "finetune", "params": {"epochs": 5000}, "out": "runs/4"})
        outcomes = lab.sweep([long, specs[0]], "ray")
        assert next(outcomes).note == "was there already"
        deadline = time.monotonic() + 200
        while not (tmp_path / "runs" / "4" / "run.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        outcomes.close()
        assert Run(tmp_path / "runs" / "4").liveness() == "cancelled"
    finally:
        ray.shutdown()
