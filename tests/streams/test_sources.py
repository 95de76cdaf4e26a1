"""Every kind of source on tiny data: the same pixels and labels that were put in come out; bad data is named."""

import hashlib
import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cillab.core.errors import DataError, HubError, InvalidRequestError, UnknownNameError
from cillab.core.memory import machine_memory
from cillab.core.pixels import Preprocessing
from cillab.streams.cifar import Archive, open_cifar
from cillab.streams.opening import open_source
from cillab.streams.sources import Options, hold_out
from cillab.streams.stream import make_stream
from cillab.streams.table import ParquetShelf

from .worlds import array_source, encoded, folder, picture, table

CANVAS = Preprocessing(20, 0.8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ALL = np.arange


# --- names ---------------------------------------------------------------------------------------------------------


def test_a_misspelt_name_lists_the_kinds_and_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"digits, .*folder:DIR, .*held-out:NAME, hf:NAME.*Did you mean 'digits'"
    ):
        open_source("digitz")


@pytest.mark.parametrize(
    ("name", "form"), [("folder", "folder:DIR"), ("folder:", "folder:DIR"), ("digits:8", "digits")]
)
def test_a_name_without_its_place_shows_the_form(name: str, form: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"write '{form}'"):
        open_source(name)


# --- 80/20 ---------------------------------------------------------------------------------------------------------


def test_hold_out_is_a_stratified_partition() -> None:
    labels = np.repeat(np.arange(4), [10, 2, 1, 7])
    parts = hold_out(labels, "abcd", seed=0)
    assert sorted([*parts["train"], *parts["test"]]) == list(range(20))
    assert np.bincount(labels[parts["test"]], minlength=4).tolist() == [2, 1, 0, 1]


def test_hold_out_of_a_class_ignores_the_other_classes() -> None:
    alone = hold_out(np.zeros(10, dtype=np.int64), ["b"], seed=0)["test"]
    after = hold_out(np.repeat([0, 1], [7, 10]), ["a", "b"], seed=0)["test"]
    assert set(alone + 7) == {row for row in after if row >= 7}
    other = hold_out(np.zeros(10, dtype=np.int64), ["b"], seed=1)["test"]
    assert set(other) != set(alone)


# --- digits and shields --------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    source, bunch = open_source("digits"), load_digits()
    assert source.common_size("train", np.arange(len(source.labels("train")))) == (8, 8)
    for split in ("train", "test"):
        index = ALL(len(source.labels(split)))
        rows = [int(name.split("/")[1]) for name in source.ids(split, index)]
        assert np.array_equal(source.labels(split), bunch.target[rows])
        expected = np.round(bunch.images[rows] * 255 / 16)
        for channel in range(3):
            assert np.array_equal(source.images(split, index)[:, channel], expected)
    assert len(source.labels("test")) == 359  # 20 % of every class, rounded


def test_shields_have_masks_families_and_a_prefix_property(tmp_path: Path) -> None:
    few, more = (
        open_source("shields", image_size=16, train_per_class=n, test_per_class=1, cache=tmp_path) for n in (1, 2)
    )
    assert len(few.class_names) == len(set(few.class_names)) == 100
    assert few.families is not None
    assert len(set(few.families)) == 10
    first = ALL(0, 200, 2)
    assert np.array_equal(few.images("train", ALL(100)), more.images("train", first))
    assert few.ids("train", ALL(100)) == more.ids("train", first)
    masks = few.masks("test", ALL(100))
    assert masks is not None
    assert masks.shape == (100, 16, 16)
    assert masks.any(axis=(1, 2)).mean() > 0.9


@pytest.mark.parametrize("size", [7, 4000])
def test_shields_of_an_impossible_size(size: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"image_size = {size}"):
        open_source("shields", image_size=size)


# --- cifar100 ------------------------------------------------------------------------------------------------------


def tiny_archive(path: Path, records: dict[str, np.ndarray]) -> Archive:
    """The layout of cifar-100-binary.tar.gz, with a few records."""
    content = {f"{split}.bin": rows.tobytes() for split, rows in records.items()}
    content["fine_label_names.txt"] = b"apple\nbaby\ncan\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return Archive(path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest())


@pytest.fixture
def records() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {split: rng.integers(0, 256, (count, 3074), dtype=np.uint8) for split, count in (("train", 7), ("test", 4))}
    for rows in made.values():
        rows[:, 1] = np.arange(len(rows)) % 3
    return made


def test_cifar_is_downloaded_once_and_read_record_by_record(tmp_path: Path, records: dict[str, np.ndarray]) -> None:
    archive = tiny_archive(tmp_path / "cifar-100-binary.tar.gz", records)
    options = Options(cache=tmp_path / "cache")
    source = open_cifar(archive, options)
    assert source.class_names == ("apple", "baby", "can")
    for split, rows in records.items():
        images = source.images(split, ALL(len(rows)))
        assert source.labels(split).tolist() == rows[:, 1].tolist()
        assert images[2, 1, 3, 5] == rows[2, 2 + 1024 + 3 * 32 + 5]  # green, row 3, column 5
        assert np.array_equal(images.reshape(len(rows), -1), rows[:, 2:])
    (tmp_path / "cifar-100-binary.tar.gz").unlink()
    assert open_cifar(archive, options).digest("test", ALL(4)) == source.digest("test", ALL(4))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f"cifar100-{archive.md5[:8]}", "downloads"]


def test_an_unreachable_server_says_where_the_file_may_be_put(tmp_path: Path, records: dict[str, np.ndarray]) -> None:
    archive = tiny_archive(tmp_path / "cifar-100-binary.tar.gz", records)
    away = (tmp_path / "cifar-100-binary.tar.gz").rename(tmp_path / "elsewhere")
    place = tmp_path / "cache" / "downloads" / "cifar-100-binary.tar.gz"
    with pytest.raises(HubError, match="could not be downloaded") as caught:
        open_cifar(archive, Options(cache=tmp_path / "cache"))
    assert str(place) in str(caught.value)
    assert not any(place.parent.iterdir())
    away.rename(place)  # doing what it says helps
    assert len(open_cifar(archive, Options(cache=tmp_path / "cache")).labels("train")) == 7


def test_a_wrong_archive_is_refused_and_leaves_nothing(tmp_path: Path, records: dict[str, np.ndarray]) -> None:
    archive = tiny_archive(tmp_path / "cifar-100-binary.tar.gz", records)
    with pytest.raises(DataError, match=f"md5 {archive.md5}, expected 0000"):
        open_cifar(Archive(archive.url, "0" * 32), Options(cache=tmp_path / "cache"))
    assert not any((tmp_path / "cache" / "downloads").iterdir())


# --- folders -------------------------------------------------------------------------------------------------------


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    folder(tmp_path / "train", {"dog": 3, "cat": 2, "Emu": 1})
    folder(tmp_path / "val", {"dog": 1, "cat": 2})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("Emu", "cat", "dog")  # as torchvision's ImageFolder sorts them
    assert source.labels("train").tolist() == [0, 1, 1, 2, 2, 2]
    assert source.ids("test", ALL(3)) == ("val/cat/000.png", "val/cat/001.png", "val/dog/000.png")
    assert source.common_size("train", np.arange(len(source.labels("train")))) == (10, 12)
    expected = np.asarray(Image.open(tmp_path / "train" / "dog" / "001.png")).transpose(2, 0, 1)
    assert np.array_equal(source.images("train", np.array([4]))[0], expected)


def test_folder_in_one_piece_is_divided_within_classes(tmp_path: Path) -> None:
    source = open_source(f"folder:{folder(tmp_path / 'mine', {'a': 10, 'b': 5, 'c': 1})}")
    assert np.bincount(source.labels("train")).tolist() == [8, 4, 1]
    assert np.bincount(source.labels("test"), minlength=3).tolist() == [2, 1, 0]
    names = {split: source.ids(split, ALL(len(source.labels(split)))) for split in ("train", "test")}
    assert not set(names["train"]) & set(names["test"])


def test_moving_a_folder_changes_no_digest_and_changing_a_byte_does(tmp_path: Path) -> None:
    before = make_stream(f"folder:{folder(tmp_path / 'here', {'a': 4, 'b': 4})}", "B0-Inc1").digest
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert make_stream(f"folder:{moved}", "B0-Inc1").digest == before
    picture(99).save(moved / "b" / "002.png")
    assert make_stream(f"folder:{moved}", "B0-Inc1").digest != before


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        open_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="holds no class folders"):
        open_source(f"folder:{tmp_path}")
    folder(tmp_path / "train", {"cat": 2})
    with pytest.raises(DataError, match="has train/ but none of test/"):
        open_source(f"folder:{tmp_path}")
    folder(tmp_path / "test", {"cat": 1, "yak": 1})
    with pytest.raises(DataError, match="class 'yak' is in test/ but not in train/"):
        open_source(f"folder:{tmp_path}")


def test_an_empty_class_and_a_broken_file_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", {"ant": 5, "bee": 5, "cow": 0})
    with pytest.raises(DataError, match="class 'cow' has no training image"):
        make_stream(f"folder:{root}", "B0-Inc1")
    stream = make_stream(f"folder:{root}", "B0-Inc1", order=["ant", "bee"])  # without it, all is well
    assert [len(task) for task in stream] == [4, 4]
    good = (root / "bee" / "001.png").read_bytes()
    (root / "bee" / "001.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"bee/001.png cannot be read as an image"):
        _ = [(task, stream.test()) for task in make_stream(f"folder:{root}", "B0-Inc1", order="0,1")]


def test_images_of_every_size_and_mode_share_a_canvas(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", {"a": 4, "b": 4})
    picture(1, 1, 1, "L").save(root / "a" / "000.png")
    picture(2, 50, 20, "RGBA").save(root / "a" / "001.png")
    picture(3, 20, 50, "CMYK").save(root / "b" / "000.tif")
    source = open_source(f"folder:{root}")
    assert source.common_size("train", np.arange(len(source.labels("train")))) is None
    index = ALL(len(source.labels("train")))
    assert source.images("train", index, CANVAS).shape == (len(index), 3, 25, 25)
    with pytest.raises(DataError, match="several sizes"):
        source.images("train", index)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_frames_behind_the_first_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    root = folder(tmp_path / "mine", {"a": 4, "b": 4})
    for row in range(3):
        moving = encoded(picture(row), kind, save_all=True, append_images=[picture(9), picture(8)])
        (root / "a" / f"00{row}.png").write_bytes(moving)
    source = open_source(f"folder:{root}")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            source.images("train", ALL(6))
    assert [record.getMessage().partition("png ")[2] for record in caplog.records] == [
        "holds several frames or pages. Of such images the first is used."
    ]


# --- parquet -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures() -> list[bytes]:
    return [encoded(picture(seed)) for seed in range(10)]


def test_parquet_gives_back_rows_across_row_groups_and_shards(tmp_path: Path, pictures: list[bytes]) -> None:
    names, labels = ["ant", "bee"], [0, 1] * 5
    table(tmp_path / "data" / "train-00000-of-00002.parquet", pictures[:6], labels[:6], names)
    table(tmp_path / "data" / "train-00001-of-00002.parquet", pictures[6:], labels[6:], names)
    table(tmp_path / "data" / "test-00000-of-00001.parquet", pictures[:2], [1, 0], names)
    source = open_source(f"parquet:{tmp_path}")
    assert source.class_names == ("ant", "bee")
    assert source.labels("train").tolist() == labels
    assert source.labels("test").tolist() == [1, 0]
    images = source.images("train", ALL(10))
    for seed in range(10):
        assert np.array_equal(images[seed].transpose(1, 2, 0), picture(seed))
    assert np.array_equal(source.images("train", np.array([9, 0, 5])), images[[9, 0, 5]])
    assert source.ids("train", np.array([9])) == ("train/9",)
    assert source.digest("train", np.array([0, 1])) == source.digest("test", np.array([0, 1]))  # the same bytes
    assert source.digest("train", np.array([0, 1])) != source.digest("train", np.array([1, 0]))


@pytest.mark.parametrize(("room", "loads", "said"), [(None, 3, 0), (1, 9, 1)])
def test_row_groups_stay_while_there_is_memory_and_a_lack_is_said_once(
    tmp_path: Path, pictures: list[bytes], caplog, monkeypatch, room: int | None, loads: int, said: int
) -> None:
    """A GiB was the limit on every machine, and beyond it a shuffled pass read a row group for every image, unsaid."""
    table(tmp_path / "train.parquet", pictures, [0, 1] * 5, ["ant", "bee"])
    shelf = ParquetShelf("train", [tmp_path / "train.parquet"], "image", "label", tmp_path)
    assert shelf.room == machine_memory() // 4
    if room is not None:
        shelf.room = room
    load, asked = shelf._load, list[int]()
    monkeypatch.setattr(shelf, "_load", lambda piece: asked.append(piece) or load(piece))
    with caplog.at_level(logging.WARNING):
        assert [shelf.read(row) for row in (0, 4, 8) * 3] == [pictures[row] for row in (0, 4, 8) * 3]
    assert (len(asked), len(caplog.records)) == (loads, said)
    assert not said or "read again and again" in caplog.text


def test_parquet_without_test_names_or_usual_label_column(tmp_path: Path, pictures: list[bytes]) -> None:
    table(tmp_path / "train.parquet", pictures, [0, 2] * 5, None, column="fine_label")
    source = open_source(f"parquet:{tmp_path}")
    assert source.class_names == ("0", "2")  # the ids that occur
    assert [len(source.labels(split)) for split in ("train", "test")] == [8, 2]


def test_bad_tables_are_named(tmp_path: Path, pictures: list[bytes]) -> None:
    with pytest.raises(DataError, match=r"no train.parquet"):
        open_source(f"parquet:{tmp_path}")
    train = tmp_path / "train.parquet"
    train.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(f"parquet:{tmp_path}")
    table(train, pictures, [0] * 10, None, column="species")  # declared as classes, it would be taken
    with pytest.raises(DataError, match=r"no column of labels .*Its columns: image, species"):
        open_source(f"parquet:{tmp_path}")
    table(train, pictures, [0] * 9 + [3], ["ant"])
    with pytest.raises(DataError, match="row 9: label 3 is none of the 1 classes"):
        open_source(f"parquet:{tmp_path}")


@pytest.mark.parametrize("cell", [None, b"", b"broken"])
def test_a_broken_cell_is_named_by_row(tmp_path: Path, pictures: list[bytes], cell: bytes | None) -> None:
    table(tmp_path / "train.parquet", [*pictures[:6], cell], [0] * 7, ["ant"])
    table(tmp_path / "test.parquet", pictures[:2], [0] * 2, ["ant"])
    with pytest.raises(DataError, match=r"train.parquet, row 6"):
        open_source(f"parquet:{tmp_path}").images("train", ALL(7))


# --- hf ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's library, with a cache of its own and no way out."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("offline")
def test_hf_reads_a_repository_of_parquet_files(tmp_path: Path, pictures: list[bytes]) -> None:
    repository = tmp_path / "repository"
    table(repository / "data" / "train-00000-of-00001.parquet", pictures[:7], [0, 1, 0, 1, 0, 1, 0], ["ant", "bee"])
    table(repository / "data" / "test-00000-of-00001.parquet", pictures[7:], [1, 0, 1], ["ant", "bee"])
    source = open_source(f"hf:{repository}")
    assert source.class_names == ("ant", "bee")
    assert source.labels("test").tolist() == [1, 0, 1]
    assert np.array_equal(source.images("train", np.array([3]))[0].transpose(1, 2, 0), picture(3))


@pytest.mark.usefixtures("offline")
def test_hf_reads_an_image_folder(tmp_path: Path) -> None:
    folder(tmp_path / "mine" / "train", {"ant": 3, "bee": 2})
    folder(tmp_path / "mine" / "test", {"ant": 1, "bee": 1})
    hub, ours = open_source(f"hf:{tmp_path / 'mine'}"), open_source(f"folder:{tmp_path / 'mine'}")
    assert hub.class_names == ours.class_names
    assert hub.labels("train").tolist() == ours.labels("train").tolist()
    assert hub.digest("train", ALL(5)) == ours.digest("train", ALL(5))


@pytest.mark.usefixtures("offline")
def test_hf_uses_validation_where_test_labels_are_hidden(tmp_path: Path, pictures: list[bytes]) -> None:
    for split, labels in (("train", [0, 1] * 3), ("test", [-1, -1]), ("validation", [1, 0])):
        names = ["ant", "bee"]
        table(tmp_path / "mine" / f"{split}-00000-of-00001.parquet", [*pictures[: len(labels)]], [*labels], names)
    assert open_source(f"hf:{tmp_path / 'mine'}").labels("test").tolist() == [1, 0]
    (tmp_path / "mine" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="nothing to test on: the labels of its split 'test' are hidden"):
        open_source(f"hf:{tmp_path / 'mine'}")


@pytest.mark.usefixtures("offline")
def test_a_path_in_a_table_of_hf_ends_below_its_folder(tmp_path: Path, pictures: list[bytes]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    (tmp_path / "secret.png").write_bytes(pictures[0])
    cells = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 4
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    (tmp_path / "mine").mkdir()
    content = pa.table({"image": pa.array(cells, kind), "label": pa.array([0, 1, 0, 1])})
    features = {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}
    content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(content, tmp_path / "mine" / "train.parquet")
    with pytest.raises(DataError, match="is not below"):
        open_source(f"hf:{tmp_path / 'mine'}").images("train", ALL(2))


@pytest.mark.usefixtures("offline")
def test_an_unreachable_hub_says_what_else_can_be_given() -> None:
    with pytest.raises(HubError, match=r"hf:nobody/nothing could not be loaded .*parquet:DIR") as caught:
        open_source("hf:nobody/nothing")
    assert "\n" not in str(caught.value)


def test_array_source_draws_masks_on_the_canvas_of_its_images() -> None:
    source = array_source(masks=True, size=40)
    masks = source.masks("train", ALL(3), CANVAS)
    assert masks is not None
    assert masks.shape == (3, *source.images("train", ALL(3), CANVAS).shape[2:])
    assert masks.dtype == np.bool_
