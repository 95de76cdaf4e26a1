"""Figures of runs whose numbers somebody has forged, with right checksums: a picture, or one line that says why not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cillab.figures import figures_of
from cillab.runs import Run
from cillab.runs.files import write_arrays
from cillab.runs.sums import sealed_record
from tests.fuzz.test_files import CASES, VALUES, fuzz, kept, one_line
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

fewer = settings(fuzz, max_examples=max(CASES // 3, 1))  # a figure takes longer than a file
RECORDS = ("run.json", "result.json", "probe/probe.json")


@pytest.fixture(scope="module")
def victim(tmp_path_factory) -> Path:
    return write_synthetic_run(tmp_path_factory.mktemp("forged") / "run", tasks=2, classes_per_task=3, probe=12, dim=4)


def forged(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    """Another shape, type or content."""
    real = array.dtype.kind == "f"
    most = np.finfo(array.dtype).max if real else np.iinfo(np.int16).max
    ways = [
        np.full_like(array, np.nan if real else 0),
        np.full_like(array, most, dtype=array.dtype if real else np.int64),
        np.zeros_like(array),
        array[..., :0].copy() if array.ndim else array,
        array[: len(array) // 2].copy() if array.ndim else array,
        array.ravel().copy(),
        np.ascontiguousarray(array.T),
        (array != 0).astype(np.uint8),
        (-array.astype(np.float64) - 1).astype(array.dtype if real else np.int64),
    ]
    return draw(st.sampled_from(ways))


def drawn(path: Path, data: st.DataObject) -> None:
    with one_line():
        run = Run(path)
        known = figures_of(run=run)
        if known:
            one = data.draw(st.sampled_from(known))
            one.draw(run, **({"point": 0} if one.per_image else {}))


@fewer
@given(data=st.data())
def test_arrays_of_a_snapshot(data: st.DataObject, victim: Path) -> None:
    step = data.draw(st.sampled_from(("t00", "t01")))
    path = victim / "steps" / f"{step}.safetensors"
    shot = Run(victim).snapshot(step)
    arrays = {name: np.array(values) for name, values in shot.items()}
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2)):
        arrays[name] = forged(data.draw, arrays[name])
    with kept(path):
        write_arrays(path, arrays)
        drawn(victim, data)


@fewer
@given(data=st.data())
def test_values_of_a_record(data: st.DataObject, victim: Path) -> None:
    path = victim / data.draw(st.sampled_from(RECORDS))
    values = json.loads(unsealed(path.read_text()))
    place: Any = values
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(VALUES)
    with kept(path):
        path.write_text(json.dumps(sealed_record(values)))
        drawn(victim, data)
