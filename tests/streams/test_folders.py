"""Folders as people have them: every layout is understood or refused in a line, and nothing is lost silently."""

import json
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cillab import cli
from cillab.core.errors import DataError
from cillab.streams import layout
from cillab.streams.layout import legible
from cillab.streams.opening import open_source
from cillab.streams.sources import SPLITS, Source
from cillab.streams.stream import make_stream

from .worlds import encoded, folder, picture

CLASSES = {"cat": 5, "dog": 5}
FEW = {"cat": 2, "dog": 1}


def ids_of(source: Source) -> dict[str, tuple[str, ...]]:
    return {split: source.ids(split, np.arange(len(source.labels(split)))) for split in SPLITS}


def sizes_of(source: Source) -> list[int]:
    return [len(source.labels(split)) for split in SPLITS]


# --- splits, wrappers, classes that are called like splits ---------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("Train", "Test"), ("TRAIN", "VALID"), ("training", "testing"), ("Training", "Validation")],
)
def test_split_names_in_any_case(tmp_path: Path, train: str, test: str) -> None:
    folder(tmp_path / train, CLASSES)
    folder(tmp_path / test, FEW)
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert sizes_of(source) == [10, 3]
    assert source.notes[0] == f"2 classes, 10 training images, 3 test images (from {test}/)."


@pytest.mark.parametrize("wrapper", ["mine", "mine/mine", "mine/__MACOSX/../inner"])
@pytest.mark.parametrize("divided", [True, False])
def test_wrappers_change_nothing(tmp_path: Path, wrapper: str, divided: bool) -> None:
    plain, wrapped = tmp_path / "plain", tmp_path / "wrapped"
    for root in (plain, Path(os.path.normpath(wrapped / wrapper))):
        if divided:
            folder(root / "train", CLASSES)
            folder(root / "test", FEW)
        else:
            folder(root, CLASSES)
    folder(wrapped / "__MACOSX", {"cat": 1})
    (wrapped / "LICENCE.txt").write_text("free")
    one, other = (make_stream(f"folder:{root}", "B0-Inc1") for root in (plain, wrapped))
    assert one.digest == other.digest
    assert ids_of(one.source) == ids_of(other.source)


def test_a_class_with_images_in_folders_is_no_wrapper_where_there_are_two(tmp_path: Path) -> None:
    folder(tmp_path / "cat", {"small": 2, "large": 3})
    folder(tmp_path / "dog", {"small": 2})
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert sizes_of(source) == [5, 2]


@pytest.mark.parametrize("name", ["train", "test", "val", "Train"])
def test_a_class_may_be_called_like_a_split(tmp_path: Path, name: str) -> None:
    folder(tmp_path, {"bus": 5, "car": 5, name: 5})
    source = open_source(f"folder:{tmp_path}")
    assert set(source.class_names) == {"bus", "car", name}
    assert sizes_of(source) == [12, 3]
    assert source.notes == ("3 classes, 12 training images, 3 test images (a fifth of each class, drawn by the seed).",)


def test_validation_serves_where_test_images_have_no_labels(tmp_path: Path) -> None:
    folder(tmp_path / "train", CLASSES)
    folder(tmp_path / "val", FEW)
    folder(tmp_path, {"test": 4})
    source = open_source(f"folder:{tmp_path}")
    assert sizes_of(source) == [10, 3]
    assert "further split" in source.notes[1]


@pytest.mark.parametrize(
    ("labelled", "flat", "said"),
    [
        (["train"], [], "has train/ but none of test/"),
        (["Train"], [], "has Train/ but none of test/"),
        (["train"], ["test"], r"test/ holds no class folders, so its images have no labels"),
        (["train"], ["bus"], r"if 'train' is a class, put its images straight into it"),
        (["test"], [], r"has test/ but no train/ beside it"),
        ([], ["train", "test"], r"hold no class folders, so no image has a label.*Wanted: train/CLASS/IMAGE"),
        ([], ["cat/.."], "Images lie straight in it"),
    ],
)
def test_layouts_without_labels_are_refused(tmp_path: Path, labelled: list[str], flat: list[str], said: str) -> None:
    for name in labelled:
        folder(tmp_path / name, CLASSES)
    for name in flat:
        place = Path(os.path.normpath(tmp_path / name))
        place.mkdir(exist_ok=True)
        picture(0).save(place / "0.png")
    with pytest.raises(DataError, match=said):
        open_source(f"folder:{tmp_path}")


def test_the_advice_of_a_refusal_works(tmp_path: Path) -> None:
    folder(tmp_path / "train", CLASSES)
    with pytest.raises(DataError, match=f"give folder:{tmp_path}/train"):
        open_source(f"folder:{tmp_path}")
    assert sizes_of(open_source(f"folder:{tmp_path}/train")) == [8, 2]


def test_a_class_of_test_images_only_gets_the_nearest_name(tmp_path: Path) -> None:
    folder(tmp_path / "train", CLASSES)
    folder(tmp_path / "test", {"Cat": 1})
    with pytest.raises(DataError, match=r"class 'Cat' is in test/ but not in train/\. Did you mean 'cat'"):
        open_source(f"folder:{tmp_path}")


# --- what is an image ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jfif", "JPEG"),
        ("a.jpe", "JPEG"),
        ("a.JPG", "JPEG"),
        ("a.jp2", "JPEG2000"),
        ("a.tga", "TGA"),
        ("a.pgm", "PPM"),
        ("a.ico", "ICO"),
        ("a.heic", "HEIF"),
        ("a.HEIF", "HEIF"),
        ("a.avif", "AVIF"),
        ("b", "HEIF"),
        ("a", "PNG"),
        ("a.", "PNG"),
        ("a.dat", "WEBP"),
        ("a.jpg", "PNG"),
    ],
)
def test_images_are_told_by_content(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    folder(tmp_path, CLASSES)
    (tmp_path / "cat" / name).write_bytes(encoded(picture(1, 16, 16), kind))
    source = open_source(f"folder:{tmp_path}")
    assert sum(sizes_of(source)) == 11
    assert len(source.notes) == 1
    source.common_size("train", np.arange(sizes_of(source)[0]))


def test_what_is_no_image_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "READS_HEIC", False)
    folder(tmp_path, CLASSES)
    (tmp_path / "cat" / "a.txt").write_text("notes")
    (tmp_path / "cat" / "b.txt").write_text("P6 but no image")
    (tmp_path / "dog" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    with caplog.at_level(logging.WARNING):
        source = open_source(f"folder:{tmp_path}")
    assert sum(sizes_of(source)) == 10
    (note,) = source.notes[1:]
    for part in ("2 .txt file (e.g. 'cat/a.txt')", "1 .heic that needs pip install 'cillab[heic]'", "1 broken link"):
        assert part in note
    assert "1 special file" in note
    assert note in caplog.text


@pytest.mark.parametrize("name", ["c.heic", "c.HEIF"])
def test_a_damaged_photograph_of_a_telephone_is_named(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pillow_heif")
    folder(tmp_path, CLASSES)
    whole = encoded(picture(1, 64, 64), "HEIF")
    (tmp_path / "dog" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
        _ = [(task, stream.test()) for stream in [make_stream(f"folder:{tmp_path}", "B0-Inc1")] for task in stream]


def test_clutter_is_neither_class_nor_image(tmp_path: Path) -> None:
    folder(tmp_path, CLASSES)
    before = make_stream(f"folder:{tmp_path}", "B0-Inc1").digest
    for name in ("__MACOSX", ".ipynb_checkpoints", ".git", "@eaDir"):
        folder(tmp_path / name, {"cat": 1})
        folder(tmp_path / "cat" / name, {"x": 1})
    for name in ("._000.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
        shutil.copy(tmp_path / "dog" / "000.png", tmp_path / "cat" / name)
    stream = make_stream(f"folder:{tmp_path}", "B0-Inc1")
    assert stream.digest == before
    assert len(stream.source.notes) == 1


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "mine", folder(tmp_path / "elsewhere", {"more": 3, "ant": 4})
    folder(root, CLASSES)
    (root / "cat" / "linked").symlink_to(elsewhere / "more")
    (root / "cat" / "again").symlink_to(elsewhere / "more")
    (root / "cat" / "loop").symlink_to(root / "cat")
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "ant").symlink_to(elsewhere / "ant")
    source = open_source(f"folder:{root}")
    labels = np.concatenate([source.labels(split) for split in SPLITS])
    assert source.class_names == ("ant", "cat", "dog")
    assert np.bincount(labels).tolist() == [4, 8, 5]
    names = [name for part in ids_of(source).values() for name in part]
    assert len(set(names)) == 17
    assert not any("loop" in name for name in names)


# --- trouble -------------------------------------------------------------------------------------------------------


def test_empty_classes_are_named_with_advice(tmp_path: Path) -> None:
    folder(tmp_path, {**CLASSES, "cow": 0, "yak": 0})
    source = open_source(f"folder:{tmp_path}")
    assert source.notes[1].startswith("no training image in class 'cow', 'yak': add images")
    with pytest.raises(
        DataError, match=r"class '(cow|yak)' has no training image: add some, .* leave it out with --order"
    ):
        make_stream(source, "B0-Inc1")


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_all_broken_files_are_named_at_once(tmp_path: Path, damage: bytes | None) -> None:
    folder(tmp_path / "train", CLASSES)
    folder(tmp_path / "test", FEW)
    broken = ["train/cat/001.png", "train/dog/004.png", "test/dog/000.png"]
    for name in broken:
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(good[: len(good) // 2] if damage is None else damage)
    with pytest.raises(DataError, match=r"3 images of folder:.* are broken") as caught:
        _ = [task.data for task in make_stream(f"folder:{tmp_path}", "B0-Inc1")]
    for name in broken:
        assert f"{name} cannot be read as an image" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_test_images_that_are_training_images_are_counted(tmp_path: Path) -> None:
    folder(tmp_path / "train", CLASSES)
    folder(tmp_path / "test", {"cat": 0, "dog": 0})
    for number in range(3):
        shutil.copy(tmp_path / "train" / "cat" / f"00{number}.png", tmp_path / "test" / "dog" / f"{number}.png")
    picture(77).save(tmp_path / "test" / "cat" / "new.png")
    source = open_source(f"folder:{tmp_path}")
    (note,) = source.notes[1:]
    assert source.leaked == 3
    assert note == (
        "3 of 4 test images are byte for byte a training image: 'test/dog/0.png', 'test/dog/1.png', 'test/dog/2.png'."
    )


# --- names ---------------------------------------------------------------------------------------------------------

NAMES = [
    ("\N{CAT FACE}", "\N{CAT FACE}"),
    ("حيوان", "حيوان"),
    ("می‌خواهم", "می‌خواهم"),
    ("x" * 200, "x" * 200),
    ("<script>", "<script>"),
    ("two\nlines", r"two\nlines"),
    ("bell\a\x1b[31m", r"bell\x07\x1b[31m"),
    ("turn\u202eed", r"turn\u202eed"),
    (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
]


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_every_name_is_legible(tmp_path: Path, name: str, expected: str) -> None:
    assert legible(name) == expected
    root = tmp_path / "mine"
    folder(root, {"plain": 5, name: 5})
    (root / name / "000.png").rename(root / name / f"{name[:100]}.png")
    (root / name / f"{name[:100]}.txt").write_text("notes")
    stream = make_stream(f"folder:{root}", "B0-Inc1", order="natural")
    assert expected in stream.class_names
    text = json.dumps([stream.manifest, stream.source.notes], ensure_ascii=False)
    text.encode()
    assert not any(c in text for c in "\n\a\x1b\u202e")
    assert sum(len(task) for task in stream) == 8
    (root / name / "001.png").write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        _ = [(task, stream.test()) for task in make_stream(f"folder:{root}", "B0-Inc1", order="natural")]
    assert str(caught.value).isprintable() or "\u200c" in str(caught.value)


def test_a_place_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / os.fsdecode(b"caf\xe9"), CLASSES)
    with pytest.raises(DataError, match=r"caf\\xe9: the path is not UTF-8"):
        open_source(f"folder:{root}")


def test_a_folder_as_it_comes_runs_and_says_what_was_understood(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    classes = {"ant": 4, os.fsdecode(b"caf\xe9"): 4, "\N{CAT FACE}": 4, "x" * 200: 4}
    root = folder(tmp_path / "zip" / "mine" / "Train", classes).parent
    folder(root / "Test", dict.fromkeys(classes, 1))
    words = [
        "cillab",
        "run",
        "--data",
        f"folder:{tmp_path}/zip",
        "--split",
        "B0-Inc2",
        "--backbone",
        "bundled:vit",
        "--learner",
        "simplecil",
        "--device",
        "cpu",
    ]
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = "".join(capsys.readouterr())
    assert "4 classes, 16 training images, 4 test images (from Test/)." in said
    assert "4 of 4 test images are byte for byte a training image" in caplog.text
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert info["protocol"]["leaked"] == 4
    assert r"caf\xe9" in info["class_names"].values()
