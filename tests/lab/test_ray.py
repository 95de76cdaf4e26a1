"""`sweep --engine ray` asks for what a run needs: Ray hides GPUs from a task that does not ask for one."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cillab.lab import sweep as lab
from cillab.lab.spec import RunSpec


class FakeRay(SimpleNamespace):
    """A cluster that does every task at once and notes the GPUs that it asked for."""

    def __init__(self, gpus: float) -> None:
        super().__init__(asked=[], gpus=gpus)

    def init(self, **_: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0} | ({"GPU": self.gpus} if self.gpus else {})

    def remote(self, act: Any) -> Any:
        def options(num_gpus: float) -> SimpleNamespace:
            self.asked.append(num_gpus)
            return SimpleNamespace(remote=act)

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[Any]) -> tuple[list[Any], list[Any]]:
        return waiting[-1:], waiting[:-1]

    def get(self, ready: Any) -> Any:
        return ready


@pytest.mark.parametrize(("gpus", "asked"), [(0, [0, 0]), (4, [1, 0])])
def test_a_run_asks_for_a_gpu_where_there_is_one_and_it_may_use_it(
    gpus: int, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(gpus)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(lab, "_done_by_process", lambda spec: spec.backbone.device)
    specs = [RunSpec(), RunSpec(device="cpu")]
    assert sorted(lab.sweep(specs, "ray")) == ["auto", "cpu"]  # pyright: ignore[reportArgumentType]
    assert ray.asked == asked
