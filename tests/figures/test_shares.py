"""Axes of shares, over every figure that a run supports: none says 150 %."""

from typing import Any

import pytest

from cillab.figures import figures_of, named
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run


@pytest.mark.parametrize("kind", ["noise", "text", "etf"])
def test_no_axis_of_shares_goes_far_beyond_all(kind: str, tmp_path) -> None:
    path = tmp_path / kind
    options: Any = {"tasks": 3, "classes_per_task": 3, "probe": 45, "dim": 8, "cams": True}
    run = Run(write_synthetic_run(path, **options, text=kind == "text", etf=kind == "etf"))
    found = 0
    for name in (figure.name for figure in figures_of(run=run)):
        drawn: Any = named(name).draw(run).figure
        for axis in (*drawn.select_xaxes(), *drawn.select_yaxes()):
            if not (axis.tickformat or "").endswith("%"):
                continue
            found += 1
            most = max(axis.tickvals) if axis.tickvals else None  # room behind the last tick is for words
            assert (most is not None and most <= 1) or (axis.range and axis.range[1] <= 1.1), (name, axis.range)
    assert found > 5
