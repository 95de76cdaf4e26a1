"""What is kept for all who look stays below its number of bytes, and what was asked last is what remains."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("streamlit")
from app.images import gallery, images, saliency
from app.shell.kept import keep, weight
from app.shell.store import Entry, Opened
from cillab.runs import Run
from cillab.runs.arrays import Arrays

pytestmark = pytest.mark.app


def test_the_weight_of_a_figure_is_that_of_its_arrays_and_texts() -> None:
    traces = [{"x": np.zeros(1000), "text": "a" * 500, "marker": {"color": ["#123456"] * 100, "size": 4}}]
    assert 8500 < weight({"data": traces}) < 2 * (8500 + 100 * 64)


def test_bytes_not_numbers_decide_what_is_let_go() -> None:
    made: list[int] = []

    @keep(10_000, weight, lambda number, size: number)
    def work(number: int, size: int) -> np.ndarray:
        made.append(number)
        return np.zeros(size, np.uint8)

    for number in range(100):
        work(number, 500)
    work(99, 500), work(90, 500)
    assert len(made) == 100  # the last ones are still there
    work(0, 500)
    assert made[-1] == 0  # the first ones are not
    big = work(200, 9_000)
    assert work(200, 9_000) is big
    assert work(99, 500) is not None
    assert made[-1] == 99  # let go to make room
    assert work(300, 20_000) is not work(300, 20_000)  # larger than everything: shown, not kept


def test_another_image_reads_no_file_that_was_read_for_the_first(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folders["noise"] / "first"
    view, read = Opened(Entry("first", path, "run"), Run(path)), []
    sprites = view.run.probe.sprites

    def look(index: int) -> dict:
        gallery.outcomes(view, 3)
        images.file_url(sprites)
        return saliency.collect(view, index).found

    first, array, whole = look(0), Arrays._opened, Path.read_bytes
    monkeypatch.setattr(Arrays, "_opened", lambda self: read.append(self.path) or array(self))
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or whole(self))
    other = look(1)
    assert read == []
    assert set(first) == set(other) and not np.array_equal(first[0]["true"], other[0]["true"])
    np.testing.assert_allclose(
        other[2]["true"], view.snapshots[2]["cam/true"][1] / 255 * float(view.snapshots[2]["cam_scale/true"][1])
    )
