"""A learner asked about own images says in every state what it said then, and what is near is what is near."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("streamlit")
from app.learner import waking
from app.shell.store import Entry, Opened
from app.views.bring_your_own import own
from cillab.core.errors import DataError
from cillab.lab import Lab, reopen as module
from cillab.lab.prepare import Ready
from cillab.runs import Run
from tests.lab.fakes import Line, Tiny, squares

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setattr(module, "prepare", lambda spec: Ready(spec, squares(), line := Line(), Tiny(line)))
    monkeypatch.setattr(
        "cillab.explain.gradcam.gradcam", lambda learner, images, targets: {"predicted": torch.zeros(len(images), 2, 2)}
    )
    list(Lab(squares(), Tiny(Line()), tmp_path / "run", probe_points=12, train_probe_per_class=4))
    waking._jobs.clear()
    return Opened(Entry("demo-run", tmp_path / "run", "demo"), Run(tmp_path / "run"))


def as_files(asker: own.Asker) -> list[tuple[str, bytes]]:
    """The probe images as PNG files, which keep every pixel."""
    import io

    files = []
    for index, image in enumerate(asker.reopened.probe_images.images.numpy()):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "PNG")
        files.append((f"{index}.png", buffer.getvalue()))
    return files


def test_uploaded_probe_images_get_the_recorded_answers_in_every_state(view) -> None:
    asker = own.load(view)
    assert isinstance(asker, own.Asker)
    files = as_files(asker)
    for step in (2, 0, 1, 2):  # back and forth: one learner is put into one state after the other
        said = own.ask(view, asker, step, files)
        answers = [said[own.digest(content)].answer for _, content in files]
        assert answers == view.snapshots[step]["predictions"].tolist()


def test_what_was_asked_is_remembered(view, monkeypatch) -> None:
    asker = own.load(view)
    files = as_files(asker)
    first = own.ask(view, asker, 1, files[:3])
    monkeypatch.setattr(own, "_look", lambda asker, snapshot, pictures: pytest.fail("asked again"))
    assert own.ask(view, asker, 1, files[:3]) == first


def test_the_nearest_means_are_those_of_a_plain_loop(view) -> None:
    asker = own.load(view)
    files = as_files(asker)
    said = own.ask(view, asker, 2, files)
    shot = view.snapshots[2]
    means = shot["means/now"].astype(np.float64)
    centre = sum(means) / len(means)
    with torch.no_grad():
        features = asker.reopened.learner.features(asker.reopened.probe_images.images).numpy().astype(np.float64)
    for (_, content), feature in zip(files, features, strict=True):
        cosines = {}
        for class_id, mean in zip(shot["seen"].tolist(), means, strict=True):
            a, b = feature - centre, mean - centre
            cosines[class_id] = float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
        wanted = sorted(cosines.items(), key=lambda pair: -pair[1])[:5]
        near = said[own.digest(content)].nearest
        assert [c for c, _ in near] == [c for c, _ in wanted]
        np.testing.assert_allclose([v for _, v in near], [v for _, v in wanted], atol=1e-6)


def test_means_of_another_width_are_not_compared() -> None:
    shot = {"means/now": np.ones((2, 3)), "seen": np.array([4, 7])}
    assert own._near(shot, np.ones((2, 5))) == [(), ()]
    assert own._near({}, np.ones((1, 5))) == [()]


def test_the_picture_under_a_map_is_the_evaluation_crop(view) -> None:
    asker = own.load(view)
    name, content = as_files(asker)[0]
    assert own.crop(asker, content, name, 32).shape == (32, 32, 3)
    with pytest.raises(DataError):
        own.seen_as(asker, b"no image", "x")


def test_a_foreign_run_that_names_files_of_this_machine_is_not_reopened(view, monkeypatch) -> None:
    monkeypatch.delenv("CILLAB_DATA", raising=False)
    monkeypatch.setitem(view.run.info.spec, "data", "folder:/etc")
    stranger = Opened(Entry("sent", view.run.path, "run"), view.run)
    assert "outside this app's data folder" in str(own.load(stranger))
