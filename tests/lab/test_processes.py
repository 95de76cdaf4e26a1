"""One run on two processes (gloo, as a launcher starts them) against the same run on one: same numbers, one writer."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cillab.core import launched, processes
from cillab.core.errors import RunError
from cillab.runs import Run

ROOT = Path(__file__).parents[2]
LAUNCHED = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cillab")


@pytest.mark.parametrize(("rows", "sizes"), [(7, [3, 2, 2]), (3, [1, 1, 1]), (2, [2, 2, 2]), (0, [0, 0, 0])])
def test_rows_are_divided_in_order_and_too_few_are_not(
    rows: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    own, shares = [], []
    for number in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda number=number: number)
        own.append(list(range(rows))[processes.mine(rows)])
        shares.append(processes.share(rows))
    assert [len(one) for one in own] == sizes
    assert sum(shares) == pytest.approx(1)
    if rows >= 3:
        assert [row for one in own for row in one] == list(range(rows))
    else:
        assert own == [list(range(rows))] * 3  # every process does them all


def test_states_that_differ_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    other = 1.0

    def all_gather(found: list[torch.Tensor], own: torch.Tensor) -> None:
        gathered.append(own)
        found[0].copy_(gathered[0])
        found[1].copy_(own * other)

    gathered = list[torch.Tensor]()
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    facts = {"classes": (3, 1), "chosen": [150, 7], "gamma": 0.1}
    processes.must_agree([torch.ones(3)], facts, "it")
    processes.must_agree([torch.ones(3)], {**facts, "gamma": 0.1 + 1e-12}, "it")  # a real number by rounding
    for apart in ({**facts, "chosen": [75, 7]}, {**facts, "classes": (3,)}, {**facts, "chosen": [151, 7]}):
        with pytest.raises(RunError, match="disagree about it"):
            processes.must_agree([torch.ones(3)], apart, "it")
    other = 1.01
    with pytest.raises(RunError, match="disagree about it"):
        processes.must_agree([torch.ones(3)], facts, "it")


def test_without_a_launcher_there_is_one_process() -> None:
    assert launched.expected() == 1 and launched.is_first() and processes.count() == 1


def cillab(*words: str, where: Path) -> None:
    where.joinpath("tmp").mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(where / "tmp"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=where, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(where.glob("tmp/cillab-process-*"))


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    words = "--data digits --split B0-Inc5 --learner slca --set each=16 --precision fp32"
    words += ' --set fit={"epochs":2} --set align={"epochs":1}'
    words += " --train-per-class 10 --test-per-class 10 --probe-points 40 --train-probe-per-class 5"
    cillab("-m", "cillab", "run", *words.split(), "--out", "one", where=tmp_path)
    cillab(*LAUNCHED, "run", *words.split(), "--out", "two", where=tmp_path)
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    must_be_near(one, two)
    assert "2 processes" in two.info.device
    last = two.task_steps[-1]
    for gone in ("result.json", f"steps/{last}.safetensors", f"checkpoints/{last}.safetensors"):
        (two.path / gone).unlink()
    cillab(*LAUNCHED, "resume", "two", where=tmp_path)
    must_be_near(one, Run(tmp_path / "two"))


def must_be_near(one: Run, two: Run) -> None:
    """Sums in another order: gradients differ in their last bits, and the steps of two epochs carry that on."""
    assert one.task_steps == two.task_steps
    for step in one.task_steps:
        for name in ("means/now", "head/weight"):
            ours, theirs = one.snapshot(step)[name], two.snapshot(step)[name]
            assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max(), (step, name)
    assert one.result is not None and two.result is not None
    assert two.result.a_last == pytest.approx(one.result.a_last, abs=0.02)
