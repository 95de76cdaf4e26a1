"""Parquet files as people have them: every odd label, column and path is either read rightly or one clear line."""

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cillab.core.errors import DataError, InvalidRequestError
from cillab.lab.spec import RunSpec
from cillab.streams.opening import open_source
from cillab.streams.sources import Source
from cillab.streams.stream import make_stream, stream_of

from .worlds import encoded, picture, table

CELLS = [encoded(picture(seed)) for seed in range(6)]
ALL = np.arange


def write(path: Path, images: list[Any], labels: pa.Array | list[Any] | None, image="image", label="label") -> Path:
    """A parquet file without any metadata."""
    columns = {image: pa.array(images)} | ({} if labels is None else {label: pa.array(labels)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def opened(root: Path) -> Source:
    return open_source(f"parquet:{root}")


def both(root: Path, labels: Any, images: list[Any] = CELLS, **columns: str) -> Source:
    """The same file to train and to test on, read."""
    for split in ("train", "test"):
        write(root / f"{split}.parquet", images, labels, **columns)
    return opened(root)


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        ([True, False, True, False, True, False], ("false", "true"), [1, 0, 1, 0, 1, 0]),
        ([3, 7, 3, 12, 7, 3], ("3", "7", "12"), [0, 1, 0, 2, 1, 0]),
        ([10**9, 0, 0, 10**18, 0, 0], ("0", "1000000000", "1000000000000000000"), [1, 0, 0, 2, 0, 0]),
        ([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], ("0", "1"), [1, 0, 1, 0, 1, 0]),  # what pandas makes of ids
        (["b", "a", "b", "a", "b", "a"], ("a", "b"), [1, 0, 1, 0, 1, 0]),
        (pa.array(list("bababa")).dictionary_encode(), ("a", "b"), [1, 0, 1, 0, 1, 0]),
    ],
)
def test_labels_that_are_understood(tmp_path: Path, labels: Any, names: tuple[str, ...], ids: list[int]) -> None:
    source = both(tmp_path, labels)
    assert source.class_names == names
    assert source.labels("train").tolist() == source.labels("test").tolist() == ids
    stream = make_stream(source, "B0-Inc1")
    assert [len(task) for task in stream] == np.bincount(ids)[list(stream.order)].tolist()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0.5, 0.0, 1.0, 1.0, 0.0, 1.0], "whole numbers from 0 on, or class names, not 0.5"),
        ([float("inf"), 0.0, 1.0, 1.0, 0.0, 1.0], "not inf"),
        ([-1, 0, 1, 0, 1, 0], "whole numbers from 0 on, or class names, not -1"),
        ([0, None, 1, 0, None, 1], r"train.parquet, row 1: the label is empty \(2 such rows of 6\)"),
        ([0.0, float("nan"), 1.0, 0.0, 0.0, 1.0], r"train.parquet, row 1: the label is empty\."),
        ([[0], [1], [0], [1], [0], [1]], r"not a nested list such as \[0\]"),
        ([{"id": 0}] * 6, "not a nested dict such as"),
        ([b"a", b"b"] * 3, "not bytes such as b'a'"),
        (pa.nulls(6), "labels of its split 'test' are hidden"),
    ],
)
def test_labels_that_name_no_class_are_one_line(tmp_path: Path, labels: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        both(tmp_path, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [0.5, 2, -1])
def test_labels_outside_the_declared_names_are_refused(tmp_path: Path, label: float) -> None:
    table(tmp_path / "train.parquet", [*CELLS], [0, 1] * 3, ["ant", "bee"])
    content = parquet.read_table(tmp_path / "train.parquet")
    changed = content.set_column(1, "label", pa.array([0, 1, 0, 1, 0, label]))
    parquet.write_table(changed.replace_schema_metadata(content.schema.metadata), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=f"row 5: label {label} is none of the 2 classes"):
        opened(tmp_path)


def test_names_that_look_alike_stay_classes_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert both(tmp_path, ["cat", "cat ", "Cat", "dog", "cat", "dog"]).class_names == ("Cat", "cat", "cat ", "dog")
    assert "look alike are classes of their own: 'Cat', 'cat', 'cat '." in caplog.text


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\x1b[31m", r"a\x1b[31m"), ("a\nb", r"a\nb"), ("a\u202eb", r"a\u202eb"), ("é \U0001f431", "é \U0001f431")],
)
def test_names_hold_nothing_that_a_terminal_obeys(tmp_path: Path, name: str, expected: str, declared: bool) -> None:
    if declared:
        table(tmp_path / "train.parquet", [*CELLS], [0, 1] * 3, [name, "z"])
    else:
        write(tmp_path / "train.parquet", CELLS, [name, "z"] * 3)
    source = opened(tmp_path)
    assert expected in source.class_names and len(source.class_names) == 2


@pytest.mark.parametrize(
    "metadata", [b"[]", b"[" * 100_000, b"\xff", b'{"info": {"features": {"label": {"names": 3}}}}']
)
def test_odd_metadata_is_passed_over(tmp_path: Path, metadata: bytes) -> None:
    content = pa.table({"image": CELLS, "label": [0, 1] * 3}).replace_schema_metadata({"huggingface": metadata})
    parquet.write_table(content, tmp_path / "train.parquet")
    assert opened(tmp_path).class_names == ("0", "1")


# --- columns and cells ---------------------------------------------------------------------------------------------


def test_a_label_column_called_class(tmp_path: Path) -> None:
    assert both(tmp_path, ["a", "b"] * 3, label="class").class_names == ("a", "b")


def columns(path: Path, typed: dict[str, str] | None = None, **columns: list[Any]) -> Path:
    """A parquet file of any columns; `typed` declares some as the hub does."""
    content = pa.table({name: pa.array(values) for name, values in columns.items()})
    if typed:
        features = {name: {"_type": kind} for name, kind in typed.items()}
        content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path)
    return path


AB, XY, OTHER = ["a", "b"] * 3, ["x", "y"] * 3, ["x", "x", "y", "y", "y", "y"]


@pytest.mark.parametrize(
    ("table", "typed", "asked", "names", "said"),
    [
        ({"Image": CELLS, "LABEL": AB}, {}, {}, ("a", "b"), "by column 'LABEL', images in 'Image'"),
        ({"image": CELLS, "label": AB, "class": XY}, {}, {}, ("a", "b"), "by column 'label' \\(as 'class' says too\\)"),
        ({"image": CELLS, "label": AB, "class": OTHER}, {}, {"label_column": "class"}, ("x", "y"), "by column 'class'"),
        ({"image": CELLS, "species": AB}, {}, {"label_column": "species"}, ("a", "b"), "by column 'species'"),
        ({"image": CELLS, "species": [0, 1] * 3}, {"species": "ClassLabel"}, {}, ("0", "1"), "by column 'species'"),
        ({"scan": CELLS, "label": AB}, {"scan": "Image"}, {}, ("a", "b"), "images in 'scan'"),
        ({"scan": CELLS, "image": CELLS[::-1], "label": AB}, {"scan": "Image"}, {}, ("a", "b"), "images in 'scan'"),
        ({"scan": CELLS, "label": AB}, {}, {"image_column": "scan"}, ("a", "b"), "images in 'scan'"),
        (
            {"before": CELLS, "after": CELLS[::-1], "label": AB},
            {"before": "Image", "after": "Image"},
            {"image_column": "after"},
            ("a", "b"),
            "images in 'after'",
        ),
    ],
)
def test_columns_are_told_by_name_and_type_or_asked_for(
    tmp_path: Path, table: dict[str, list], typed: dict[str, str], asked: dict[str, str], names: tuple, said: str
) -> None:
    columns(tmp_path / "train.parquet", typed, **table)
    columns(tmp_path / "test.parquet", typed, **{name: values[:4] for name, values in table.items()})
    stream = make_stream(f"parquet:{tmp_path}", "B0-Inc1", **asked)
    assert stream.source.class_names == names
    assert re.search(said, stream.source.notes[0])
    assert "2 classes" in stream.source.notes[0] and "6 training images, 4 test images (split 'test')" in str(
        stream.source.notes
    )
    again = stream_of(stream.spec)  # the record alone makes it again
    assert again.digest == stream.digest


@pytest.mark.parametrize(
    ("table", "typed", "asked", "error", "says"),
    [
        (
            {"image": CELLS, "label": AB, "class": OTHER},
            {},
            {},
            DataError,
            r"'label' \(2 classes\), 'class' \(2 classes\)\. Name one: --label-column label",
        ),
        ({"image": CELLS, "species": AB}, {}, {}, DataError, "Its columns: image, species.*--label-column NAME"),
        ({"scan": CELLS, "label": AB}, {}, {}, DataError, "no column of images .*--image-column NAME"),
        (
            {"before": CELLS, "after": CELLS, "label": AB},
            {"before": "Image", "after": "Image"},
            {},
            DataError,
            "several columns of images: 'before', 'after'.*--image-column before",
        ),
        (
            {"image": CELLS, "species": AB},
            {},
            {"label_column": "specie"},
            InvalidRequestError,
            "label_column = 'specie'.*Did you mean 'species'",
        ),
        ({"image": CELLS, "label": AB}, {}, {"image_column": "img"}, InvalidRequestError, "image_column = 'img'"),
    ],
)
def test_columns_that_nobody_can_tell_are_asked_for(
    tmp_path: Path, table: dict, typed: dict, asked: dict, error: type[Exception], says: str
) -> None:
    columns(tmp_path / "train.parquet", typed, **table)
    with pytest.raises(error, match=says) as caught:
        make_stream(f"parquet:{tmp_path}", "B0-Inc1", **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", ["digits", "shields + digits", "held-out:digits"])
def test_what_is_no_table_has_no_columns(data: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"label_column = 'label': .* is no table"):
        open_source(data, label_column="label")


def test_columns_reach_a_part_and_the_held_out_half(tmp_path: Path) -> None:
    columns(tmp_path / "train.parquet", image=CELLS, species=AB)
    for data in (f"digits + parquet:{tmp_path}", f"held-out:parquet:{tmp_path}"):
        assert {"a", "b"} <= set(open_source(data, label_column="species").class_names)


def test_columns_and_the_digest_of_a_request() -> None:
    plain = RunSpec.of({"data": "parquet:x"})
    assert plain.digest() == "d62693ceae5ac08a"  # as before there were columns to name
    assert plain.with_(near_duplicates=True).digest() == plain.digest()
    assert plain.with_(label_column="species").digest() != plain.digest()


@pytest.mark.parametrize("shape", ["bytes", "list", "path", "path in a record"])
def test_every_form_of_an_image_cell_has_the_same_pixels_and_digest(tmp_path: Path, shape: str) -> None:
    (tmp_path / "pics").mkdir()
    for row, cell in enumerate(CELLS):
        (tmp_path / "pics" / f"{row}.png").write_bytes(cell)
    forms: dict[str, Callable[[int], Any]] = {
        "bytes": lambda row: CELLS[row],
        "list": lambda row: list(CELLS[row]),
        "path": lambda row: f"pics/{row}.png",
        "path in a record": lambda row: {"bytes": None, "path": str(tmp_path / "pics" / f"{row}.png")},
    }
    source = both(tmp_path, [0, 1] * 3, [forms[shape](row) for row in range(6)])
    pixels = source.images("train", ALL(6)).transpose(0, 2, 3, 1)
    assert all(np.array_equal(pixels[row], picture(row)) for row in range(6))
    table(tmp_path / "usual" / "train.parquet", [*CELLS], [0, 1] * 3, None)
    table(tmp_path / "usual" / "test.parquet", [*CELLS], [0, 1] * 3, None)
    assert source.digest("train", ALL(6)) == opened(tmp_path / "usual").digest("train", ALL(6))


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("/dev/zero", "is not below"),
        ("../secret.png", "is not below"),
        ("link.png", "is not below"),
        ("pipe.png", "no ordinary file"),
        ("data", "no ordinary file"),
        ("nowhere.png", "cannot be read"),
        ("a\0b.png", "cannot be read"),
        ("", "holds no image"),
        ([300, 1], "not the bytes of an image file"),
        ([[1, 2], [3, 4]], "not the bytes of an image file"),
        ([1, 2, 3], "cannot be read as an image"),
        (5, "holds no image"),
    ],
)
def test_a_cell_that_is_no_image_of_this_data_set_is_named(tmp_path: Path, cell: Any, says: str) -> None:
    root = tmp_path / "mine"
    (root / "data").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(CELLS[0])
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(root / "pipe.png")
    source = both(root, [0, 1] * 3, [cell] * 6)
    with pytest.raises(DataError, match=rf"train.parquet, row 0.*{says}"):
        source.images("train", ALL(6))


# --- splits and shards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["train-00000-of-00002"], ["train-00001-of-00002"], ["train-00000-of-00003", "train-00002-of-00003"]]
)
def test_a_missing_shard_is_named(tmp_path: Path, names: list[str]) -> None:
    missing = {1: "train-0000{}-of-00002.parquet", 2: "train-00001-of-00003.parquet"}[len(names)]
    for name in names:
        write(tmp_path / "data" / f"{name}.parquet", CELLS, [0, 1] * 3)
    with pytest.raises(DataError, match=f"{missing.format(1 - int('00001' in names[0]))} is missing"):
        opened(tmp_path)


@pytest.mark.parametrize("second", ["train", "train-00000-of-00002", "train-00000-of-00001-abc"])
def test_two_divisions_of_one_split_are_refused(tmp_path: Path, second: str) -> None:
    for name in ("train-00000-of-00001", second):
        write(tmp_path / f"{name}.parquet", CELLS, [0, 1] * 3)
    with pytest.raises(DataError, match="two copies or two divisions"):
        opened(tmp_path)


@pytest.mark.parametrize("hidden", [None, [-1] * 6, [None] * 5 + [-1]])
def test_validation_is_used_where_test_labels_are_hidden(tmp_path: Path, hidden: list[int | None] | None) -> None:
    write(tmp_path / "train.parquet", CELLS, [0, 1] * 3)
    write(tmp_path / "test.parquet", CELLS, hidden)
    with pytest.raises(DataError, match=r"nothing to test on: .*Add a labelled split 'validation'") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    write(tmp_path / "validation.parquet", CELLS[:2], [1, 0])
    assert opened(tmp_path).labels("test").tolist() == [1, 0]


def test_a_table_without_any_label(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", CELLS, pa.nulls(6))
    with pytest.raises(DataError, match="no labelled image"):
        opened(tmp_path)


def test_a_second_shard_with_other_columns_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", CELLS, [0, 1] * 3)
    write(tmp_path / "train-00001-of-00002.parquet", CELLS, [0, 1] * 3, label="species")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet has no column of labels \(label\)"):
        opened(tmp_path)
