"""Ten tasks under the probe: how often an image is hashed and forwarded, counted where both happen."""

from collections import Counter

import pytest
import torch

from cillab.backbones import cache
from cillab.lab.probe import Examiner
from cillab.learners import learners
from cillab.parts import fitting
from cillab.parts.method import Fit, gathered, revisit
from cillab.streams.stream import make_stream
from tests.backbones.models import vit
from tests.lab.fakes import Squares


class Counted:
    """A backbone that notes the bytes of every image that it forwards, and under what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashed: Counter[bytes] = Counter()
        self.forwarded: Counter[tuple[str, bytes]] = Counter()
        self.backbone = vit()
        hashes, embed = cache._hashed, self.backbone._embed

        def hashing(images: torch.Tensor) -> list[bytes]:
            self.hashed.update(image.numpy().tobytes() for image in images)
            return hashes(images)

        def embedding(pixels: torch.Tensor) -> torch.Tensor:
            if not torch.is_grad_enabled():  # gradient steps look at augmented images, each its own
                state = self.backbone.feature_key().digest
                self.forwarded.update((state, image.numpy().tobytes()) for image in pixels)
            return embed(pixels)

        monkeypatch.setattr(cache, "_hashed", hashing)
        self.backbone._embed = embedding


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.mark.parametrize(
    ("name", "tasks", "given", "states"),
    [("simplecil", 10, {}, 1), ("fsa", 3, {"first.epochs": 1}, 1), ("finetune", 3, {"fit.epochs": 1}, 3)],
)
def test_every_image_is_hashed_once_and_forwarded_once_for_every_state_of_the_model(
    name: str, tasks: int, given: dict, states: int, counted: Counted
) -> None:
    stream = make_stream(Squares(tasks, train=4, test=3), split="B0-Inc1").on(counted.backbone)
    cls = learners[name]
    learner = cls(counted.backbone, cls.Params.model_validate(given), seed=0)
    examiner = Examiner(stream, points=tasks, train_per_class=2)
    for index, task in enumerate(stream):
        for _ in learner.observe(task):
            pass
        for _ in examiner.look(learner, index):
            pass
    assert max(counted.hashed.values()) == 1, "an image was hashed twice"
    assert max(counted.forwarded.values()) == 1, "an image was forwarded twice in one state of the model"
    assert len({state for state, _ in counted.forwarded}) == states
    if states == 1:
        assert len(counted.hashed) == len(counted.forwarded) == 7 * tasks


def test_views_that_are_always_the_same_are_forwarded_once_for_all_passes(counted: Counted) -> None:
    task = make_stream(Squares(1, train=6, test=1), split="B0-Inc1").on(counted.backbone)[0]
    learner = learners["simplecil"](counted.backbone, seed=0)
    found: dict[str, list[torch.Tensor]] = {"none": [], "rrc-flip": []}
    for _ in gathered(learner, task):
        pass
    for kind, forwarded in (("none", 6), ("rrc-flip", 6 + 2 * 6)):
        for _ in revisit(learner, task, lambda h, y, kind=kind: found[kind].append(h), 2, Fit(augment=kind)):
            pass
        assert sum(counted.forwarded.values()) == forwarded
    views = fitting.augmented(task, counted.backbone, fitting.augmentation(Fit(augment="none")), 6, 0, "views", 0)
    with torch.no_grad():
        (direct,) = (counted.backbone.embed(pixels) for pixels, _ in views)
    torch.testing.assert_close(found["none"][0], direct)
    assert not torch.allclose(found["rrc-flip"][0], direct)
