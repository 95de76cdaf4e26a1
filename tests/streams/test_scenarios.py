"""Scenarios: how many images each class gives, which ones, and which classes come by name alone."""

import numpy as np
import pytest

from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.protocol import make_scenario
from cillab.protocol.rarity import shots_of, thirds_of
from cillab.streams.stream import make_stream

from .worlds import array_source


@pytest.mark.parametrize(("tau", "total"), [(1.0, 1600), (0.25, 869), (0.06, 536)])
def test_shots_follow_the_formula(tau: float, total: int) -> None:
    counts = shots_of(16, tau, 100)
    assert counts[0] == 16 and sum(counts) == total  # the sums are those of core_methods, worked out by hand
    assert list(counts) == sorted(counts, reverse=True)
    assert counts[-1] / counts[0] == pytest.approx(tau, abs=0.5 / 16)
    assert counts[50] == max(1, round(16 * tau ** (50 / 99)))


def test_every_class_keeps_one_shot_and_one_class_has_no_tail() -> None:
    assert shots_of(2, 0.01, 5)[-1] == 1
    assert shots_of(16, 0.1, 1) == (16,)


def test_thirds() -> None:
    assert thirds_of((1, 3, 5, 7, 9)) == {1: "head", 3: "head", 5: "medium", 7: "medium", 9: "tail"}
    assert thirds_of((2, 1)) == {2: "head", 1: "tail"}


def test_all_at_once_is_one_task_whose_images_fall_along_the_labels() -> None:
    stream = make_stream(array_source(classes=5, train=9), scenario="all-at-once", shots=8, imbalance=0.25)
    assert (stream.split, stream.sizes, stream.order) == ("all", (5,), (0, 1, 2, 3, 4))
    assert tuple(stream.train_images.values()) == shots_of(8, 0.25, 5)
    assert len(stream.train(0)) == sum(shots_of(8, 0.25, 5))
    assert np.bincount(stream.test().labels).tolist() == [3] * 5  # the test set stays balanced
    assert stream.thirds == thirds_of(stream.order)


def test_shots_are_drawn_by_the_seed_and_fewer_are_a_part_of_more() -> None:
    source = array_source(classes=3, train=9)

    def ids(shots: int, seed: int) -> set[str]:
        return set(make_stream(source, scenario="all-at-once", shots=shots, seed=seed).train(0).ids)

    assert ids(4, 1) == ids(4, 1) != ids(4, 2)
    assert ids(2, 1) < ids(4, 1) < ids(9, 1)


def test_a_class_order_moves_no_image_and_no_tail() -> None:
    source = array_source(classes=6, train=9)
    asked = {"scenario": "long-tail", "profile": "labels", "shots": 8, "imbalance": 0.2}
    one, other = (make_stream(source, "B0-Inc2", order=order, **asked) for order in ("natural", [5, 3, 1, 0, 2, 4]))
    assert one.train_images == {k: other.train_images[k] for k in one.order}
    assert {i for t in one for i in t.data.ids} == {i for t in other for i in t.data.ids}


def test_imbalance_alone_starts_from_all_images() -> None:
    stream = make_stream(
        array_source(classes=4, train=8), "B0-Inc2", order="natural", scenario="long-tail", imbalance=0.5
    )
    assert tuple(stream.train_images.values()) == shots_of(8, 0.5, 4)


def test_nothing_asked_changes_nothing() -> None:
    source = array_source(classes=10)
    plain, spelt = make_stream(source), make_stream(source, "B0-Inc10", scenario="class-incremental", shots=None)
    assert plain.digest == spelt.digest and plain.thirds == {}
    everything = make_stream(source, shots=99)
    assert everything.digest == plain.digest  # a class that has fewer gives all, in the source's order


def test_base_to_new_brings_the_second_half_by_name_alone() -> None:
    stream = make_stream(array_source(classes=7, train=9), scenario="base-to-new", shots=8, imbalance=0.25)
    base, new = stream
    assert (base.classes, new.classes) == ((0, 1, 2, 3), (4, 5, 6)) and stream.names_only == (4, 5, 6)
    assert len(new) == 0 and list(new.batches(4)) == [] and new.class_names[6] == "kind 6"
    assert tuple(stream.train_images.values()) == (*shots_of(8, 0.25, 4), 0, 0, 0)  # decays over the base classes
    assert len(stream.test(1)) == 9
    assert set(stream.thirds) == set(base.classes)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"scenario": "long-tale"}, UnknownNameError, "Did you mean 'long-tail'"),
        ({"shots": 0}, InvalidRequestError, "shots = 0"),
        ({"scenario": "long-tail", "imbalance": 0.0}, InvalidRequestError, "imbalance = 0.0"),
        ({"scenario": "long-tail", "imbalance": 1.5}, InvalidRequestError, "imbalance = 1.5"),
        ({"scenario": "all-at-once", "split": "B0-Inc2"}, InvalidRequestError, "contradicts"),
        ({"split": "base-new"}, InvalidRequestError, "base-to-new"),
        ({"shots": 8, "train_per_class": 4}, InvalidRequestError, "train_per_class = 4"),
        ({"ways": 8}, InvalidRequestError, "no parameter 'ways'"),
    ],
)
def test_what_cannot_be_is_one_clear_line(request_: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make_stream(array_source(), **request_)


def test_shots_that_nobody_gave_are_those_of_the_literature() -> None:
    assert make_scenario("all-at-once").shots == make_scenario("base-to-new").shots == 16
    assert make_scenario("class-incremental").shots is None
