"""The battery that every learner passes: `check_learner("simplecil")`.

Each check is a function of a `Bench` (a backbone, a small stream, hyper-parameters that keep the learner quick) and
raises AssertionError with one sentence. A learner that must deviate gets a row in `EXCEPTIONS` with its reason;
no check looks at a name.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cillab.core.contract import Backbone, Learner, Task
from cillab.core.errors import InvalidRequestError, NotObservedError
from cillab.core.params import HyperParams, build, parameters_of
from cillab.core.registry import learners
from cillab.core.state import pack, restore, snapshot, unpack

EXCEPTIONS: dict[tuple[str, str], str] = {}  # (check, learner): reason


@dataclass(frozen=True)
class Bench:
    """What a check works with: `tasks` for learning, `test` images with their labels per task."""

    name: str
    backbone: Backbone
    tasks: Sequence[Task]
    test: Sequence[tuple[Tensor, Tensor]]
    quick: Mapping[str, Any] = field(default_factory=dict)

    def learner(self, **changes: Any) -> Learner[Any]:
        """A fresh learner with quick hyper-parameters."""
        cls = learners[self.name]
        values = quick_values(cls.Params) | dict(self.quick) | changes
        seed = values.pop("seed", 7)
        return cls(self.backbone, build(cls.Params, values, self.name), seed=seed)

    def taught(self, count: int | None = None, **changes: Any) -> Learner[Any]:
        """A learner that has observed the first `count` tasks."""
        learner = self.learner(**changes)
        for task in self.tasks[:count]:
            learn(learner, task)
        return learner

    @property
    def images(self) -> Tensor:
        """All test images of all tasks."""
        return torch.cat([images for images, _ in self.test])

    @property
    def labels(self) -> Tensor:
        """Their labels."""
        return torch.cat([labels for _, labels in self.test])


def quick_values(record: type[HyperParams]) -> dict[str, Any]:
    """What a method's record, and the records in it, declare to be quick."""
    inner = {f"{n}.{k}": v for n, own in record.records().items() for k, v in quick_values(type(own)).items()}
    return inner | dict(record.quick)


class RelabelledTask(Task):
    """A task with a subset of another's images and other label ids: for sparse ids, one image, a returning class."""

    def __init__(self, task: Task, ids: Mapping[int, int], limit: int | None = None) -> None:
        self.index = task.index
        pairs = [(i, y) for images, labels in task.batches(64) for i, y in zip(images, labels.tolist(), strict=True)]
        kept = [(image, ids[y]) for image, y in pairs if y in ids][:limit]
        self._images = torch.stack([image for image, _ in kept])
        self._labels = torch.tensor([y for _, y in kept], device=self._images.device)
        self.classes = tuple(dict.fromkeys(self._labels.tolist()))
        self.class_names = {c: f"class {c}" for c in self.classes}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """As every task: each image once."""
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        for chosen in order.to(self._images.device, non_blocking=True).split(batch_size):
            yield self._images[chosen], self._labels[chosen]


def learn(learner: Learner[Any], task: Task) -> None:
    """Exhaust `observe`."""
    for _ in learner.observe(task):
        pass


def logits(learner: Learner[Any], images: Tensor) -> Tensor:
    """Logits without gradient."""
    with torch.no_grad():
        return learner.logits(images)


def predictions(learner: Learner[Any], images: Tensor) -> Tensor:
    """Predicted class ids."""
    seen = torch.tensor(learner.seen, device=images.device)
    return seen[logits(learner, images).argmax(dim=1)]


def accuracy(learner: Learner[Any], bench: Bench) -> float:
    """Share of all test images, of seen and unseen classes, that are predicted right."""
    return float((predictions(learner, bench.images) == bench.labels).double().mean())


def same_states(one: Learner[Any], two: Learner[Any]) -> bool:
    """Bit for bit, every tensor of every part."""
    first, second = pack(snapshot(one.parts())), pack(snapshot(two.parts()))
    if first[1] != second[1] or first[0].keys() != second[0].keys():
        return False
    return all(torch.equal(first[0][key], second[0][key]) for key in first[0])


def saved_and_loaded(learner: Learner[Any], fresh: Learner[Any]) -> Learner[Any]:
    """`fresh` after it took over the packed state of `learner`."""
    tensors, meta = pack(snapshot(learner.parts()))
    restore(fresh.parts(), unpack({k: t.clone() for k, t in tensors.items()}, meta))
    return fresh


def says_what_is_missing_before_the_first_task(bench: Bench) -> None:
    """A fresh learner has seen nothing and says so instead of guessing."""
    learner = bench.learner()
    assert learner.seen == (), "a fresh learner has seen classes"
    try:
        learner.logits(bench.images[:1])
    except NotObservedError:
        return
    raise AssertionError("logits before any task must raise NotObservedError")


def columns_follow_seen(bench: Bench) -> None:
    """`seen` lists the classes as they came; logits and head rows have that order and number."""
    learner = bench.taught()
    expected = tuple(c for task in bench.tasks for c in task.classes)
    assert learner.seen == expected, f"seen = {learner.seen}, tasks brought {expected}"
    scores = logits(learner, bench.images[:3])
    assert scores.shape == (3, len(expected)), f"logits have shape {tuple(scores.shape)}"
    assert len(learner.head().weight) == len(expected), "head() must have one row per seen class"
    assert scores.isfinite().all(), "logits are not finite"


def internals_are_declared(bench: Bench) -> None:
    """Whatever `internals()` returns stands in the capabilities, with as many axes as declared."""
    axes = {one.name: one.axes for one in type(bench.learner()).capabilities.internals}
    learner = bench.learner()
    for count in range(len(bench.tasks) + 1):
        if count:
            learn(learner, bench.tasks[count - 1])
        for name, value in learner.internals().items():
            assert name in axes, f"internals() returns {name!r}: declare it in @method(internals=...)"
            assert value.ndim == axes[name], f"internals()[{name!r}] has shape {tuple(value.shape)}, not as declared"


def batch_mates_do_not_matter(bench: Bench) -> None:
    """Logits of an image do not depend on which images are beside it, on batch size or on repetition."""
    learner = bench.taught()
    images = bench.images
    together, answer = logits(learner, images), predictions(learner, images)
    some = slice(None, None, 3)  # of every class a few: alone they take the time of the whole check
    alone = torch.cat([logits(learner, image.unsqueeze(0)) for image in images[some]])
    backwards = logits(learner, images.flip(0)).flip(0)
    scale = together.abs().max()
    for one, other in ((together[some], alone), (together, backwards)):
        assert float((one - other).abs().max() / scale) < 1e-3, "logits depend on batch size or order"
    assert torch.equal(answer, predictions(learner, images)), "a second evaluation gives other predictions"


def evaluation_changes_nothing(bench: Bench) -> None:
    """Looking at a learner, however often, changes neither its state nor what it learns next."""
    watched, blind = bench.taught(1), bench.taught(1)
    for _ in range(2):
        logits(watched, bench.images)
        watched.features(bench.images[:2])
        watched.internals()
        watched.head()
    assert same_states(watched, blind), "evaluation changed the state"
    learn(watched, bench.tasks[1])
    learn(blind, bench.tasks[1])
    assert same_states(watched, blind), "evaluation changed what was learnt next"


def same_seed_same_result(bench: Bench) -> None:
    """Two learners with one seed are the same bit for bit."""
    assert same_states(bench.taught(2), bench.taught(2)), "two runs with one seed differ"


def must_be_contiguous(learner: Learner[Any]) -> None:
    """Every tensor of every part."""
    held = {f"{name}/{key}": t for name, part in learner.parts().items() for key, t in part.state().tensors.items()}
    odd = [name for name, tensor in held.items() if not tensor.is_contiguous()]
    assert not odd, f"{odd[0]} is not contiguous: a file keeps no layout, and another one rounds otherwise"


def save_load_continue_equals_straight(bench: Bench) -> None:
    """Saved after a task, loaded into a fresh learner and continued: the straight run, bit for bit."""
    straight = bench.taught(1)
    resumed = saved_and_loaded(straight, bench.learner())
    assert resumed.seen == straight.seen, f"after loading seen = {resumed.seen}, it was {straight.seen}"
    assert torch.equal(logits(straight, bench.images), logits(resumed, bench.images)), "loading changed the logits"
    must_be_contiguous(straight)
    for task in bench.tasks[1:]:
        learn(straight, task)
        learn(resumed, task)
    must_be_contiguous(straight)
    assert same_states(straight, resumed), "save-load-continue differs from the straight run"


def slim_checkpoint_classifies(bench: Bench) -> None:
    """Without the tensors that only learning needs, logits are the same."""
    learner = bench.taught(1)
    tensors, meta = pack(snapshot(learner.parts()), slim=True)
    viewer = bench.learner()
    restore(viewer.parts(), unpack(tensors, meta))
    assert torch.equal(logits(learner, bench.images), logits(viewer, bench.images)), "a slim checkpoint differs"


def closing_early_changes_nothing(bench: Bench) -> None:
    """`observe` closed at the start, in the middle or just before its end leaves no trace."""
    learner, untouched, straight = (bench.taught(1) for _ in range(3))
    steps = sum(1 for _ in straight.observe(bench.tasks[1]))
    for stop in sorted({1, steps // 2, steps - 1} - {0}):
        running: Any = learner.observe(bench.tasks[1])
        for _ in range(stop):
            next(running)
        running.close()
        assert same_states(learner, untouched), f"closing observe after {stop} of {steps} steps left traces"
    learn(learner, bench.tasks[1])
    assert same_states(learner, straight), "after a cancelled attempt the task is learnt differently"


def nothing_is_sized_by_the_future(bench: Bench) -> None:
    """After the same first task, shapes are the same whether one or many tasks follow: there is no way to know."""
    learner = bench.taught(1)
    known, total = len(bench.tasks[0].classes), sum(len(task.classes) for task in bench.tasks)
    assert logits(learner, bench.images[:1]).shape[1] == known, "columns for classes that were not seen"
    assert len(learner.head().weight) == known, "rows for classes that were not seen"
    for task in bench.tasks[:1]:
        reachable = {name: value for name, value in vars(task).items() if isinstance(value, int)}
        assert total not in reachable.values(), f"the task tells the number of all classes: {reachable}"


def the_backbone_is_never_changed(bench: Bench) -> None:
    """Backbone tensors are bit-identical, no hook is left, and no part requires grad between tasks."""
    before = {name: t.clone() for name, t in bench.backbone.module.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in bench.backbone.module.modules())
    learner = bench.taught(2)
    logits(learner, bench.images[:2])
    for name, tensor in bench.backbone.module.state_dict().items():
        assert torch.equal(before[name], tensor), f"backbone tensor {name} changed"
    left = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in bench.backbone.module.modules())
    assert left == hooks, "hooks were left on the backbone"
    trained = [n for n, part in learner.parts().items() for t in part.state().tensors.values() if t.requires_grad]
    assert not trained, f"parts {trained} require grad outside observe"


def learns(bench: Bench) -> None:
    """Beats chance, and is not worse at the end than the model that stopped after the first task."""
    learner = bench.taught(1)
    stopped = accuracy(learner, bench)
    for task in bench.tasks[1:]:
        learn(learner, task)
    final = accuracy(learner, bench)
    chance = 1 / sum(len(task.classes) for task in bench.tasks)
    assert final > 1.5 * chance, f"accuracy {final:.3f} at chance {chance:.3f}"
    assert final >= stopped, f"accuracy fell from {stopped:.3f} after the first task to {final:.3f}"


def sparse_ids_and_returning_classes(bench: Bench) -> None:
    """Class ids may be any numbers, and a class that comes again is no new class."""
    first, second = bench.tasks[0].classes, bench.tasks[1].classes
    ids = {c: 401 - 37 * i for i, c in enumerate((*first, *second))}
    learner = bench.learner()
    learn(learner, RelabelledTask(bench.tasks[0], ids))
    learn(learner, RelabelledTask(bench.tasks[1], ids))
    learn(learner, RelabelledTask(bench.tasks[0], ids))  # all of its classes return
    assert set(learner.seen) == set(ids.values()) and len(learner.seen) == len(ids), f"seen = {learner.seen}"
    assert logits(learner, bench.images[:2]).shape == (2, len(ids)), "a returning class got a second column"


def a_task_of_one_image(bench: Bench) -> None:
    """One image of one class is a task."""
    learner = bench.taught(1)
    only = bench.tasks[1].classes[0]
    learn(learner, RelabelledTask(bench.tasks[1], {only: only}, limit=1))
    assert learner.seen[-1] == only and logits(learner, bench.images[:2]).isfinite().all(), "one image broke it"


def leaves_the_world_alone(bench: Bench) -> None:
    """Global generators, standard output and the caller's images are untouched."""
    images = bench.images.clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        learner = bench.taught(1)
        logits(learner, images)
    assert torch.equal(torch_state, torch.get_rng_state()), "torch's global generator was used"
    assert str(numpy_state) == str(np.random.get_state()), "NumPy's global generator was used"  # noqa: NPY002
    assert not said.getvalue(), f"it printed {said.getvalue()[:80]!r}"
    assert torch.equal(images, bench.images), "the caller's images changed"


def bounds_are_enforced(bench: Bench) -> None:
    """Every bounded hyper-parameter refuses a value outside, by name; an unknown one is refused too."""
    cls = learners[bench.name]
    wrong: list[tuple[str, Any]] = [("no_such_parameter", 1)]
    for parameter in parameters_of(cls.Params):
        schema = parameter.owner.model_json_schema()["properties"][parameter.name.rpartition(".")[2]]
        if "exclusiveMinimum" in schema:
            wrong.append((parameter.name, schema["exclusiveMinimum"]))
        elif "minimum" in schema:
            wrong.append((parameter.name, schema["minimum"] - 1))
        elif "enum" in schema:
            wrong.append((parameter.name, "no such choice"))
    for name, value in wrong:
        try:
            bench.learner(**{name: value})
        except InvalidRequestError as error:
            assert name in str(error), f"the message does not name {name}: {error}"
        else:
            raise AssertionError(f"{name} = {value!r} was accepted")
    for parameter in parameters_of(cls.Params):
        assert parameter.info.description, f"hyper-parameter {parameter.name} has no documentation"
    try:
        setattr(bench.learner().params, next(iter(cls.Params.model_fields)), None)
    except Exception as error:
        assert "frozen" in str(error).lower(), f"hyper-parameters are not frozen: {error}"
    else:
        raise AssertionError("hyper-parameters can be changed after construction")


CHECKS: tuple[Callable[[Bench], None], ...] = (
    says_what_is_missing_before_the_first_task,
    columns_follow_seen,
    internals_are_declared,
    batch_mates_do_not_matter,
    evaluation_changes_nothing,
    same_seed_same_result,
    save_load_continue_equals_straight,
    slim_checkpoint_classifies,
    closing_early_changes_nothing,
    nothing_is_sized_by_the_future,
    the_backbone_is_never_changed,
    learns,
    sparse_ids_and_returning_classes,
    a_task_of_one_image,
    leaves_the_world_alone,
    bounds_are_enforced,
)


def check_learner(name: str, backbone: Backbone | None = None, stream: Any = None, **quick: Any) -> dict[str, str]:
    """Run the whole battery on the learner called `name`; by default on six bundled classes in three tasks.

    Args:
        name: A registered learner.
        backbone: Where it runs; default the bundled model that the learner's capabilities ask for, in fp32.
        stream: Three or more tasks; default `shields` with 12 training and 6 test images a class.
        quick: Hyper-parameters for speed, e.g. `epochs=1`.

    Returns:
        Check name -> "passed", or "excused: reason" for a declared exception.

    Raises:
        AssertionError: at the first check that fails, with its name. An error of the learner's own has it as a note.
    """
    bench = make_bench(name, backbone, stream, **quick)
    outcome = {}
    for check in CHECKS:
        reason = EXCEPTIONS.get((check.__name__, name))
        if reason:
            outcome[check.__name__] = f"excused: {reason}"
            continue
        try:
            check(bench)
        except AssertionError as failure:
            raise AssertionError(f"{name} fails {check.__name__}: {failure}") from failure
        except Exception as error:  # the learner's own: the line that raised it does not say what was asked of it
            error.add_note(f"{name} fails {check.__name__}: {(check.__doc__ or '').strip().partition(chr(10))[0]}")
            raise
        outcome[check.__name__] = "passed"
    return outcome


def make_bench(name: str, backbone: Backbone | None = None, stream: Any = None, **quick: Any) -> Bench:
    """The bench that `check_learner` uses."""
    from cillab.backbones import make_backbone  # noqa: PLC0415  only the default bench needs them
    from cillab.streams.stream import make_stream  # noqa: PLC0415

    needs = learners[name].capabilities.needs
    chosen = backbone or make_backbone("bundled:clip" if "clip" in needs else "bundled:vit", precision="fp32")
    whole = stream or make_stream("shields", split="B0-Inc2", train_per_class=12, test_per_class=6)
    some = whole[:3].on(chosen)
    test = [(images.images, images.labels) for images in (some.test(i) for i in range(len(some)))]
    return Bench(name, chosen, tuple(some), test, quick)
