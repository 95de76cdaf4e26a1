"""Streams: who gets which image, what a manifest freezes, and what a task can reach."""

import gc
import json
from collections.abc import Sequence
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from torch import Tensor

from cillab.core.contract import Backbone, Task
from cillab.core.errors import DataError, InvalidRequestError
from cillab.core.pixels import Preprocessing
from cillab.streams.arrays import ArraySource
from cillab.streams.images import Block, ImageSet
from cillab.streams.sources import Source
from cillab.streams.stream import Stream, make_stream

from .worlds import array_source, folder

CANVAS = Preprocessing(20, 0.8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # a canvas of 25 px


def placed(stream: Stream, canvas: Preprocessing = CANVAS) -> Stream:
    """As on a backbone: `Stream.on` looks at two attributes of it and at nothing else."""
    backbone = create_autospec(Backbone, instance=True, device=torch.device("cpu"), preprocessing=canvas)
    return stream.on(backbone)


# --- dealing out ---------------------------------------------------------------------------------------------------


def test_every_image_is_dealt_out_once_in_the_order_of_the_source() -> None:
    source = array_source(classes=7)
    stream = make_stream(source, "B3-Inc2", order=[6, 0, 5, 1, 4, 2, 3])
    assert stream.sizes == (3, 2, 2)
    assert stream.order == (6, 0, 5, 1, 4, 2, 3)
    for task, classes in zip(stream, stream.classes, strict=True):
        assert isinstance(task, Task)
        assert task.classes == classes
        assert dict(task.class_names) == {c: f"kind {c}" for c in classes}
        rows = np.concatenate([np.flatnonzero(source.labels("train") == c) for c in classes])  # naive dealing
        assert task.data.ids == tuple(f"train/{row}" for row in rows)
        assert np.array_equal(task.data.images, source.images("train", rows))
        assert task.data.labels.tolist() == source.labels("train")[rows].tolist()
    together = [name for task in stream for name in task.data.ids]
    assert sorted(together) == sorted(source.ids("train", np.arange(35)))


def test_test_images_of_one_task_of_all_and_of_those_seen() -> None:
    stream = make_stream(array_source(), "B0-Inc2")
    each = [stream.test(t) for t in range(3)]
    assert torch.equal(stream.test().images, torch.cat([part.images for part in each]))
    assert stream.test().ids == sum((part.ids for part in each), ())
    assert set(stream[:2].test().labels.tolist()) == set(stream.order[:4])
    assert torch.equal(stream.test(-1).images, each[2].images)
    with pytest.raises(IndexError):
        stream.test(3)


def test_per_class_takes_the_first_images_of_each_class_or_all_there_are() -> None:
    source = array_source(classes=4, train=5, test=3)
    stream = make_stream(source, "B0-Inc2", order="natural", train_per_class=2, test_per_class=99)
    assert stream[0].data.ids == ("train/0", "train/4", "train/1", "train/5")
    assert len(stream.test()) == 12


def test_a_list_may_leave_classes_out() -> None:
    stream = make_stream(array_source(), "B0-Inc1", order=[5, 2])
    assert stream.order == (5, 2)
    assert sorted(stream.test().labels.unique().tolist()) == [2, 5]


# --- slices --------------------------------------------------------------------------------------------------------


def test_a_slice_is_a_stream_that_counts_from_zero_and_shares_pixels() -> None:
    stream = make_stream(array_source(), "B0-Inc1")
    middle = stream[2:5]
    assert isinstance(middle, Stream)
    assert isinstance(middle, Sequence)
    assert [task.index for task in middle] == [0, 1, 2]
    assert middle.order == stream.order[2:5]
    assert middle.test(0).ids == stream.test(2).ids
    assert middle.test().images.data_ptr() == stream.test(2).images.data_ptr()
    assert middle[1:].train(0).images.data_ptr() == stream.train(3).images.data_ptr()
    assert [task.classes for task in stream[::-2]] == [task.classes for task in stream][::-2]
    assert torch.equal(stream[::2].test(1).images, stream.test(2).images)
    assert len(stream[3:3]) == 0
    assert len(stream[3:3].test()) == 0


def test_nested_loops_do_not_disturb_each_other() -> None:
    stream = make_stream(array_source(), "B0-Inc2")
    assert [(a.index, b.index) for a in stream for b in stream] == [(a, b) for a in range(3) for b in range(3)]


# --- manifest ------------------------------------------------------------------------------------------------------


def test_the_manifest_is_json_and_says_which_image_is_where() -> None:
    stream = make_stream(array_source(), "B0-Inc2")
    manifest = json.loads(json.dumps(stream.manifest))
    for task, written in zip(stream, manifest["tasks"], strict=True):
        assert written["classes"] == list(task.classes)
        assert written["train"] == list(task.data.ids)
        assert written["test"] == list(stream.test(task.index).ids)
    assert stream.digest == make_stream(array_source(), "B0-Inc2").digest
    assert len(stream.digest) == 64


def test_the_digest_changes_with_everything_that_matters() -> None:
    pixels = array_source()
    pixels._splits["test"].images[0, 0, 0, 0] ^= 1
    renamed = ArraySource("random", ("other", *array_source().class_names[1:]), array_source()._splits)
    variants = [
        make_stream(array_source(), "B0-Inc2"),
        make_stream(array_source(), "B0-Inc3"),
        make_stream(array_source(), "B0-Inc2", seed=1),
        make_stream(array_source(), "B0-Inc2", train_per_class=4),
        make_stream(array_source(), "B0-Inc2", test_per_class=2),
        make_stream(array_source(), "B0-Inc2")[:2],
        make_stream(pixels, "B0-Inc2"),
        make_stream(renamed, "B0-Inc2"),
    ]
    assert len({stream.digest for stream in variants}) == len(variants)


def test_digits_keep_their_digest() -> None:
    """Frozen: another value means that results before and after cannot be compared."""
    stream = make_stream("digits", "B0-Inc2")
    assert stream.order == (4, 2, 7, 6, 0, 3, 5, 8, 9, 1)
    assert stream.digest == "78773c95c2adf58e05e6dc9d3af8776be2edc716002aa34a9aa3aa94de991d4d"


def test_info_is_json_and_states_the_protocol() -> None:
    stream = make_stream(array_source(masks=True), "B0-Inc2", train_per_class=2)
    info = json.loads(json.dumps(stream.info))
    assert info["digest"] == stream.digest
    assert info["order"] == list(stream.order)
    assert (info["split"], info["order_rule"], info["seed"]) == ("B0-Inc2", "pilot", 1993)
    assert (info["num_train_images"], info["num_test_images"]) == (12, 18)
    assert info["pixel_bytes"] == (12 + 18) * 3 * 8 * 8
    assert info["has_masks"]


# --- what a task can reach -----------------------------------------------------------------------------------------


def reachable(start: object) -> list[object]:
    """Every object that can be got at from `start`, whatever it takes; modules and classes are common ground."""
    found, queue = {id(start): start}, [start]
    while queue:
        for item in gc.get_referents(queue.pop()):
            common = isinstance(item, type) or type(item).__name__ in ("module", "builtin_function_or_method")
            if id(item) not in found and not common and item is not globals() and not is_namespace(item):
                found[id(item)] = item
                queue.append(item)
    return list(found.values())


def is_namespace(item: object) -> bool:
    return isinstance(item, dict) and "__name__" in item


def test_a_task_has_no_path_to_the_stream_the_test_images_or_the_number_of_classes() -> None:
    source = array_source()
    stream = make_stream(source, "B0-Inc2")
    everything_seen = stream.test()
    task = stream[0]
    objects = reachable(task)
    assert not [item for item in objects if isinstance(item, Source | Stream | Block)]
    texts = [item for item in objects if isinstance(item, str)]
    assert not [text for text in texts if text.startswith("test/")]
    assert not [text for text in texts if text in {f"kind {c}" for c in stream.order[2:]}]
    memory = {tensor.untyped_storage().data_ptr() for tensor in objects if isinstance(tensor, Tensor)}
    assert everything_seen.images.untyped_storage().data_ptr() not in memory
    assert stream[1].data.images.untyped_storage().data_ptr() not in memory
    assert task.data.images.untyped_storage().nbytes() == task.data.images.numel()
    assert isinstance(reachable(stream)[0], Stream)  # the walk does find things
    assert [item for item in reachable(stream) if isinstance(item, Source)]


# --- pixels --------------------------------------------------------------------------------------------------------


class Counting:
    """A source that counts how many images it decodes."""

    def __init__(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = 0
        original = type(source).images

        def images(inner: Source, split: str, index: np.ndarray, canvas: Preprocessing | None = None) -> np.ndarray:
            self.decoded += len(index)
            return original(inner, split, index, canvas)

        monkeypatch.setattr(type(source), "images", images)


def test_images_are_decoded_when_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = array_source(classes=6, train=5, test=3)
    counting = Counting(source, monkeypatch)
    stream = make_stream(source, "B0-Inc2")
    _ = stream.classes, stream.sizes, stream.order, stream.digest, stream.info, repr(stream)
    assert counting.decoded == 0
    _ = stream[1], stream[1], stream[1:2][0]
    assert counting.decoded == 10
    _ = stream.test(0), stream[:2].test(), stream.test(), stream.test()
    assert counting.decoded == 10 + 18


def test_images_of_one_size_keep_it_and_others_go_onto_the_canvas(tmp_path) -> None:
    native = placed(make_stream(array_source(), "B0-Inc2"))
    assert native[0].data.images.shape[2:] == (8, 8)
    mixed = make_stream(f"folder:{folder(tmp_path / 'a', {'x': 5}, 30, 20).parent / 'a'}", "B0-Inc1")
    assert mixed[0].data.images.shape[2:] == (20, 30)
    folder(tmp_path / "a" / "more", {"y": 5}, 50, 20)
    (tmp_path / "a" / "more" / "y").rename(tmp_path / "a" / "y")
    (tmp_path / "a" / "more").rmdir()
    mixed = make_stream(f"folder:{tmp_path / 'a'}", "B0-Inc1")
    assert placed(mixed)[0].data.images.shape[2:] == (25, 25)
    assert placed(mixed, CANVAS.under("whole"))[0].data.images.shape[2:] == (20, 20)
    assert mixed[0].data.images.shape[2:] == (224, 224)  # on no backbone
    assert mixed.digest == placed(mixed).digest


def test_large_images_of_one_size_go_onto_the_canvas() -> None:
    stream = placed(make_stream(array_source(classes=2, train=1, test=1, size=300), "B0-Inc1"))
    assert stream[0].data.images.shape[2:] == (25, 25)


def test_masks_travel_with_their_images() -> None:
    stream = make_stream(array_source(masks=True), "B0-Inc2")
    for part in (stream.train(1), stream.test(2), stream.test()):
        assert part.masks is not None
        assert torch.equal(part.masks, part.images[:, 0] > 127)
        assert torch.equal(part.take([2, 0]).masks, part.masks[[2, 0]])
    assert make_stream(array_source(), "B0-Inc2").test().masks is None


def test_batches_give_every_image_once() -> None:
    data = make_stream(array_source(), "B0-Inc3").train(0)
    for shuffle in (None, torch.Generator().manual_seed(0)):
        batches = list(data.batches(4, shuffle))
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 3]
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        if shuffle is None:
            assert torch.equal(images, data.images)
            assert torch.equal(labels, data.labels)
            continue
        assert not torch.equal(images, data.images)
        position = [next(k for k in range(15) if torch.equal(image, data.images[k])) for image in images]
        assert sorted(position) == list(range(15))
        assert torch.equal(labels, data.labels[position])


def test_shuffling_repeats_with_its_seed_and_leaves_global_randomness_alone() -> None:
    data, state = make_stream(array_source(), "B0-Inc3").train(0), torch.get_rng_state()
    first, again, other = (
        torch.cat([labels for _, labels in data.batches(4, torch.Generator().manual_seed(seed))]) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_take_keeps_labels_and_ids_together() -> None:
    data = make_stream(array_source(), "B0-Inc3").train(0)
    some = data.take(torch.tensor([7, 2]))
    assert isinstance(some, ImageSet)
    assert some.ids == (data.ids[7], data.ids[2])
    assert some.labels.tolist() == data.labels[[7, 2]].tolist()
    assert torch.equal(some.images, data.images[[7, 2]])


# --- bad requests --------------------------------------------------------------------------------------------------


def test_impossible_streams_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="first task wants 10 classes, the data have 6"):
        make_stream(array_source(), "B0-Inc10")
    with pytest.raises(InvalidRequestError, match="train_per_class = 0"):
        make_stream(array_source(), "B0-Inc2", train_per_class=0)
    with pytest.raises(InvalidRequestError, match="a batch holds at least one image"):
        next(make_stream(array_source(), "B0-Inc2")[0].batches(0))


def test_a_task_without_a_test_image_is_named(tmp_path) -> None:
    root = folder(tmp_path / "mine", {"ant": 5, "bee": 1})
    with pytest.raises(DataError, match=r"task 2 \(bee\) has no test image"):
        make_stream(f"folder:{root}", "B0-Inc1", order="natural")
    assert len(make_stream(f"folder:{root}", "B0-Inc2")[0]) == 5  # in one task with another class it is fine


@pytest.mark.gpu
def test_the_same_pixels_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    stream = make_stream(array_source(masks=True), "B0-Inc2")
    moved = stream._placed(stream.place._replace(device=torch.device("cuda")))
    for here, there in zip(stream, moved, strict=True):
        assert there.data.images.is_cuda
        assert torch.equal(here.data.images, there.data.images.cpu())
        a, b = (torch.cat([y.cpu() for _, y in t.batches(4, torch.Generator().manual_seed(0))]) for t in (here, there))
        assert torch.equal(a, b)
