"""Ten tasks under the probe: how often an image is hashed and forwarded, counted where both happen."""

from collections import Counter

import pytest
import torch

from cillab.backbones import cache
from cillab.lab.probe import Examiner
from cillab.learners import learners
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
