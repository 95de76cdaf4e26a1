"""The sentence about a step, against a count by hand."""

import re

import pytest

from app.shell.store import Entry, Opened
from app.views.step_through.captions import sentence
from cillab.runs import Run
from tests.app.conftest import ROOT


@pytest.fixture(scope="module")
def run() -> Opened:
    path = ROOT / "cillab" / "demo" / "finetune"
    return Opened(Entry("demo", path, "demo"), Run(path))


def recalls(run: Opened, step: int) -> dict[str, float]:
    shot = run.snapshots[step]
    table = {}
    for row, class_id in zip(shot["confusion"].tolist(), shot["seen"].tolist(), strict=True):
        table[run.run.info.name_of(class_id)] = row[len(table)] / max(sum(row), 1)
    return table


def test_the_class_that_lost_most_is_named_and_what_it_is_taken_for(run) -> None:
    for step in range(1, len(run.steps)):
        before, now = recalls(run, step - 1), recalls(run, step)
        falls = {name: 100 * (before[name] - now[name]) for name in before}
        told = re.search(r"“(.+)” lost most, (\d+) points; most of its errors go to “(.+)”\.", sentence(run, step))
        assert told is not None
        assert falls[told[1]] == max(falls.values())
        assert int(told[2]) == round(max(falls.values()))
        names = list(now)
        row = run.snapshots[step]["confusion"][names.index(told[1])].tolist()
        row[names.index(told[1])] = 0
        assert row[names.index(told[3])] == max(row) > 0


def test_the_earlier_tasks_are_compared_with_themselves(run) -> None:
    rows = [shot["accuracy/row"] for shot in run.snapshots]
    change = 100 * (rows[3][:3] - rows[2]).mean()
    assert f"The 3 earlier tasks lost {-change:.1f} points on average." in sentence(run, 3)
    assert sentence(run, 0) == f"Task 1 of 10 is learnt at {100 * rows[0][0]:.1f} %."
