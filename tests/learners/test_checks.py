"""Every learner passes every check, and every check catches a learner that breaks its promise."""

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cillab.core.contract import Learner, Progress, Task
from cillab.core.registry import learners
from cillab.learners import checks, make_learner
from cillab.learners.simplecil import SimpleCIL
from tests.learners import tiny

UNSEEDED = count(1)  # differs from run to run inside one process
NAMES = [name for name in learners if "clip" not in learners[name].capabilities.needs]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_learner_passes(name: str, check) -> None:
    if (check.__name__, name) in checks.EXCEPTIONS:
        pytest.skip(checks.EXCEPTIONS[check.__name__, name])
    check(tiny.bench(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(learners))
def test_whole_battery_on_the_bundled_world(name: str) -> None:
    outcome = checks.check_learner(name)
    assert len(outcome) == len(checks.CHECKS)


def test_an_error_of_the_learners_own_says_which_check_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def counts_to_three(bench: Any) -> None:
        """A learner can count."""
        raise ValueError("two")

    monkeypatch.setattr(checks, "CHECKS", (counts_to_three,))
    with pytest.raises(ValueError, match="two") as found:
        checks.check_learner("simplecil")
    assert found.value.__notes__ == ["simplecil fails counts_to_three: A learner can count."]


class Broken(Learner[Any]):  # by composition around a sound learner
    """A learner with one fault, chosen by name."""

    name: ClassVar[str] = "broken"
    Params = SimpleCIL.Params
    capabilities = SimpleCIL.capabilities
    fault: ClassVar[str] = ""

    def __init__(self, backbone: Any, params: Any = None, *, seed: int = 1993) -> None:
        self.sound = SimpleCIL(backbone, params, seed=seed)
        self.backbone, self.params, self.seed, self.calls = backbone, self.sound.params, seed, 0

    @property
    def seen(self) -> tuple[int, ...]:
        return tuple(reversed(self.sound.seen)) if self.fault == "columns" else self.sound.seen

    def observe(self, task: Task) -> Iterator[Progress]:
        if self.fault == "global rng":
            torch.rand(1)
        if self.fault == "print":
            print("hello")
        if self.fault == "backbone":
            next(self.backbone.module.parameters()).data.add_(1e-3)
        if self.fault == "no rollback":
            for images, labels in task.batches(8):
                self.sound.classifier.add(self.sound.features(images), labels)
                yield Progress("means", 1, 1)
            return
        yield from self.sound.observe(task)
        if self.fault == "unseeded":
            self.sound.classifier.sums = self.sound.classifier.sums + next(UNSEEDED)

    def features(self, images: Tensor) -> Tensor:
        return self.sound.features(images)

    def scores(self, features: Tensor) -> Tensor:
        scores = self.sound.scores(features)
        self.calls += 1
        if self.fault == "batch mates":
            return scores - scores.mean(dim=0)
        if self.fault == "counts evaluations":
            self.sound.classifier.sums = self.sound.classifier.sums * (1 + 1e-3 * self.calls)
        return scores.flip(1) if self.fault == "learns nothing" else scores

    def head(self) -> Any:
        return self.sound.head()

    def internals(self) -> Any:
        more = {"unheard/of": torch.zeros(2)} if self.fault == "undeclared" else {}
        return {**self.sound.internals(), **more}

    def parts(self) -> Any:
        return {} if self.fault == "forgets to save" else self.sound.parts()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("columns", checks.columns_follow_seen),
        ("undeclared", checks.internals_are_declared),
        ("batch mates", checks.batch_mates_do_not_matter),
        ("counts evaluations", checks.evaluation_changes_nothing),
        ("unseeded", checks.same_seed_same_result),
        ("forgets to save", checks.save_load_continue_equals_straight),
        ("no rollback", checks.closing_early_changes_nothing),
        ("backbone", checks.the_backbone_is_never_changed),
        ("learns nothing", checks.learns),
        ("global rng", checks.leaves_the_world_alone),
        ("print", checks.leaves_the_world_alone),
    ],
)
def test_check_catches(fault: str, check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learners._entries, "broken", Broken)
    monkeypatch.setattr(Broken, "fault", fault)
    with pytest.raises(AssertionError):
        check(tiny.bench("broken"))


def test_the_sound_learner_inside_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(learners._entries, "broken", Broken)
    for check in checks.CHECKS:
        check(tiny.bench("broken"))


def test_refusals_say_what_would_work() -> None:
    from cillab.core.errors import IncompatibleError, InvalidRequestError, UnknownNameError
    from cillab.learners import check_fit

    with pytest.raises(UnknownNameError, match=r"Unknown learner 'simplcil'.*Did you mean 'simplecil'\?"):
        make_learner("simplcil", tiny.backbone())
    with pytest.raises(InvalidRequestError, match=r"no parameter 'noise_dims'.*Did you mean 'noise_dim'\?"):
        make_learner("min", tiny.backbone(), noise_dims=3)
    with pytest.raises(IncompatibleError, match="works between the blocks of a ViT"):
        check_fit("min", kind="convnet", clip=False, tag="timm:resnet18")
