"""What a moved cursor says, against the whole figure drawn at that step."""

import pytest

from cillab import figures
from cillab.figures.following import BENT, FOLLOWING, moment, read
from cillab.runs import Run
from tests.app.conftest import ROOT
from tests.runs.synthetic import write_synthetic_run

RUNS = ("demo", "synthetic", "many tasks")


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory) -> Run:
    if request.param == "demo":
        return Run(ROOT / "cillab" / "demo" / "min")
    tasks = 22 if request.param == "many tasks" else 4
    return Run(write_synthetic_run(tmp_path_factory.mktemp("run") / "one", tasks=tasks, classes_per_task=2, probe=44))


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_moment_is_the_whole_figure_at_that_step(name, run) -> None:
    data = read(name, run)
    for step in run.steps:
        whole = getattr(figures, name)(run, step)
        found = moment(name, run, data, step)
        assert (found.sentence, found.notes) == (whole.sentence, whole.notes)
        cursors = [shape for shape in whole.figure.layout.shapes if shape.name == "cursor"]
        assert cursors
        for shape in cursors:
            assert {corner: shape[corner] for corner in found.cursor} == found.cursor
        for note in whole.figure.layout.annotations:
            assert note.name != "cursor" or note.x == found.cursor["x0"]
        assert bool(found.lines) == (name in BENT)
        for trace, values in found.lines:
            assert list(whole.figure.data[trace].y) == values


@pytest.mark.parametrize("name", FOLLOWING)
def test_nothing_but_cursor_and_lines_depends_on_the_step(name, run) -> None:
    first, last = (getattr(figures, name)(run, step).figure.to_dict() for step in (run.steps[0], run.steps[-1]))
    for figure in (first, last):
        for kind in ("shapes", "annotations"):
            figure["layout"][kind] = [one for one in figure["layout"].get(kind, []) if one.get("name") != "cursor"]
        if name in BENT:
            for trace in figure["data"]:
                del trace["y"]
    assert repr(first) == repr(last)


def test_drift_of_many_tasks_has_few_traces_and_all_its_numbers(tmp_path) -> None:
    run = Run(write_synthetic_run(tmp_path / "many", tasks=22, classes_per_task=2, probe=44))
    picture = figures.drift(run)
    assert len(picture.figure.data) == 20  # a band and a line for each of ten hues
    rows = [line.split(",") for line in picture.csv().splitlines()[1:]]
    lines = [row for row in rows if row[0].startswith("task ")]
    assert len(lines) == sum(range(1, 23))  # task t is measured at its end and at every later one
    assert {row[0] for row in lines} == {f"task {task}" for task in range(1, 23)}
    mean = read("drift", run).mean
    for name, _, x, y, _ in lines:
        assert float(y) == pytest.approx(mean[round(float(x)) - 1, int(name[5:]) - 1], rel=1e-6)
