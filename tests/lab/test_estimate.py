"""An estimate is exact for a learner whose time is known: a clock that only the learner moves."""

import json
from dataclasses import asdict

import pytest

from cillab.core.contract import Progress
from cillab.core.errors import InvalidRequestError
from cillab.lab import estimate as module
from cillab.lab.catalogue import catalogue
from cillab.lab.prepare import Ready
from cillab.lab.spec import RunSpec
from cillab.streams.stream import make_stream
from tests.lab.fakes import Line, Squares, Tiny

FIXED_S, IMAGE_S, LOOK_S = 0.2, 0.01, 0.001


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Tiny):
    """Takes 0.2 s a task and 10 ms an image to learn, 1 ms an image to answer; features cost nothing."""

    def __init__(self, clock: Clock, slower: float = 1.0) -> None:
        super().__init__(Line())
        self.clock, self.slower = clock, slower

    def observe(self, task):
        self.clock.now += self.slower * FIXED_S
        for images, _ in task.batches(7):
            self.clock.now += self.slower * IMAGE_S * len(images)
            yield Progress("x", 0, 0)

    def features(self, images):
        return images

    def logits(self, images):
        self.clock.now += LOOK_S * len(images)
        return images


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    def ask(train: int, slower: float = 1.0, **changes) -> module.Estimate:
        clock, backbone = Clock(), Line()
        stream = make_stream(Squares(6, train=train, test=40), split="B0-Inc2")
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "prepare", lambda spec: Ready(spec, stream, backbone, Timed(clock, slower)))
        monkeypatch.setattr(module, "make_learner_of", lambda spec, backbone: Timed(clock, slower))
        return module.estimate(RunSpec(probe_points=10, train_probe_per_class=3, **changes))

    return ask


def test_a_line_through_two_miniatures(asked) -> None:
    found = asked(train=100)  # three tasks of 200 images
    assert found.learn_s == pytest.approx(3 * (FIXED_S + 200 * IMAGE_S))
    looked_at = (80 + 160 + 240) + 3 * 10 + (2 + 4 + 6) * 3  # test images seen, probe points, training probe
    assert found.look_s == pytest.approx(looked_at * LOOK_S)
    assert (found.tasks, found.classes, found.train_images, found.test_images) == (3, 6, 600, 240)
    assert found.total_s == found.learn_s + found.look_s


def test_a_task_smaller_than_a_miniature_is_learnt_whole(asked) -> None:
    assert asked(train=5).learn_s == pytest.approx(3 * (FIXED_S + 10 * IMAGE_S))


def test_a_slow_machine_is_asked_once_and_all_of_it_counted_by_image(asked) -> None:
    one = FIXED_S + module.FEW * IMAGE_S
    assert asked(train=100, slower=100.0).learn_s == pytest.approx(100 * one / module.FEW * 600)


def test_maps_take_longer(asked) -> None:
    assert asked(train=5, cams=True).look_s > asked(train=5).look_s


def test_it_is_plain_json(asked) -> None:
    found = asked(train=5)
    assert json.loads(json.dumps(found.as_json())) == {
        **asdict(found),
        "notes": [],
        "total_s": found.total_s,
    }


def test_what_the_run_refuses_is_refused(monkeypatch) -> None:
    with pytest.raises(InvalidRequestError, match="no parameter 'epoch'"):
        module.estimate(RunSpec(data="digits", split="B0-Inc5", learner="finetune", params={"epoch": 1}))


def test_the_catalogue_documents_every_setting_and_names_what_does_not_fit() -> None:
    found = json.loads(json.dumps(catalogue()))
    for name, method in found["learners"].items():
        assert method["summary"] and method["text"]
        for setting, schema in method["params"]["properties"].items():
            assert schema.get("description"), f"{name}.{setting} says nothing"
            assert "default" in schema, f"{name}.{setting} has no default"
    for name, method in found["learners"].items():
        refused = set(found["refusals"][name])
        assert refused == (
            {b for b, card in found["cards"].items() if not card["clip"]} if "clip" in method["needs"] else set()
        )
