"""`sweep --engine ray`: what a run asks a cluster for, on a pretended one; outcomes and an early end on a real one."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
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


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of this machine with two cores.

    Its ports are fixed: where a raylet chooses the port of an agent, it gives the agent 15 s to write it into a file.
    """
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cillab[ray]'")
    with ExitStack() as held:
        places = [held.enter_context(socket.socket()) for _ in range(4)]
        for one in places:
            one.bind(("127.0.0.1", 0))
        port, grpc, http, runtime = (one.getsockname()[1] for one in places)
    words = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats",
             "--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-agent-grpc-port={grpc}",
             f"--dashboard-agent-listen-port={http}", f"--runtime-env-agent-port={runtime}"]  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])  # for the workers
    head = subprocess.Popen(
        [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *words],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert head.stdout is not None
        said = ""
        while "Ray runtime started" not in said:
            line = head.stdout.readline()
            assert line, said
            said += line
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()  # as --block it ends what it started
        head.wait(60)


@pytest.mark.slow
def test_runs_on_a_real_cluster_of_this_machine(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # pyright: ignore[reportMissingImports]

    monkeypatch.chdir(tmp_path)  # `out` is relative, as in most sweep files
    small = {"data": "digits", "split": "B0-Inc5", "train_per_class": 5, "test_per_class": 5, "probe_points": 10}
    specs = [RunSpec.of({**small, "seed": seed, "out": f"runs/{seed}"}) for seed in (1, 2)]
    specs.append(RunSpec.of({**small, "data": "folder:nowhere", "out": "runs/3"}))
    try:
        outcomes = {one.path.name: one for one in lab.sweep(specs, "ray", threads=1, address=cluster)}
        assert {name: one.state for name, one in outcomes.items()} == {"1": "finished", "2": "finished", "3": "failed"}
        assert "nowhere" in outcomes["3"].note
        assert all((tmp_path / "runs" / name / "result.json").is_file() for name in "12")
        long = RunSpec.of({**small, "learner": "finetune", "params": {"epochs": 5000}, "out": "runs/4"})
        outcomes = lab.sweep([long, specs[0]], "ray", address=cluster)
        assert next(outcomes).note == "was there already"
        deadline = time.monotonic() + 200
        while not (tmp_path / "runs" / "4" / "run.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        outcomes.close()
        assert Run(tmp_path / "runs" / "4").liveness() == "cancelled"
    finally:
        ray.shutdown()
