"""Named data sets in every layout they come in, from small files; getting and checking them, without a network."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets as torchvision

from cillab.core.errors import DataError, HubError, InvalidRequestError, UnknownNameError
from cillab.core.pixels import Preprocessing
from cillab.lab.early import refuse_early
from cillab.lab.spec import RunSpec
from cillab.protocol.named import DataSet, homes, named_set, named_sets
from cillab.streams import fetching
from cillab.streams.checking import check_own, check_set
from cillab.streams.cifar import ARCHIVES, Archive, open_cifar
from cillab.streams.frozen import DIGEST, fifth_by_name, split_digest
from cillab.streams.named import open_named
from cillab.streams.opening import open_source
from cillab.streams.readable import readable
from cillab.streams.sources import SPLITS, Options
from cillab.streams.stream import make_stream

from .worlds import encoded, picture, table

Expected = tuple[tuple[str, ...], set[str], set[str]]  # class names; ids of training and of test images
DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def draw(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(sum(name.encode()) % 997).save(path, "PNG")  # whatever the ending: bytes decide


def write(root: Path, files: Mapping[str, Iterable[str]]) -> None:
    for name, lines in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")


def food101(home: Path) -> Expected:
    root = home / "food-101"
    parts = {"train": ["pho/1", "apple_pie/2"], "test": ["apple_pie/3", "pho/4"]}
    write(root, {f"meta/{part}.txt": lines for part, lines in parts.items()})
    for part, lines in parts.items():  # torchvision reads these
        by_class = {name: [line for line in lines if line.startswith(name)] for name in ("apple_pie", "pho")}
        (root / f"meta/{part}.json").write_text(json.dumps(by_class))
    draw(root, *(f"images/{line}.jpg" for lines in parts.values() for line in lines))
    a, b = ({f"images/{line}.jpg" for line in parts[part]} for part in ("train", "test"))
    return ("apple pie", "pho"), a, b


def dtd(home: Path) -> Expected:
    parts = {
        "train1": ["dotted/d_1.jpg", "banded/b_0.jpg"],
        "val1": ["banded/b_1.jpg"],
        "test1": ["dotted/d_2.jpg", "banded/b_2.jpg"],
    }
    write(home / "dtd" / "dtd", {f"labels/{part}.txt": lines for part, lines in parts.items()})
    draw(home / "dtd" / "dtd", *(f"images/{line}" for lines in parts.values() for line in lines))
    return ("banded", "dotted"), {f"images/{name}.jpg" for name in ("dotted/d_1", "banded/b_0", "banded/b_1")}, {
        "images/dotted/d_2.jpg", "images/banded/b_2.jpg",
    }  # fmt: skip


def aircraft(home: Path) -> Expected:
    root = home / "fgvc-aircraft-2013b"
    write(root, {
        "data/variants.txt": ["A300B4", "707-320"],
        "data/images_variant_trainval.txt": ["0001 707-320", "0002 A300B4"],
        "data/images_variant_test.txt": ["0003 A300B4"],
    })  # fmt: skip
    draw(root, *(f"data/images/000{k}.jpg" for k in (1, 2, 3)))
    return ("A300B4", "707-320"), {"data/images/0001.jpg", "data/images/0002.jpg"}, {"data/images/0003.jpg"}


def pets(home: Path) -> Expected:
    root = home / "oxford-iiit-pet"
    write(root, {
        "annotations/trainval.txt": ["american_bulldog_7 2 2 1", "Abyssinian_1 1 1 1"],
        "annotations/test.txt": ["Abyssinian_2 1 1 1", "american_bulldog_8 2 2 1"],
    })  # fmt: skip
    names = ("american_bulldog_7", "Abyssinian_1", "Abyssinian_2", "american_bulldog_8")
    draw(root, *(f"images/{name}.jpg" for name in names))
    draw(root, *(f"annotations/trimaps/{name}.png" for name in names))
    a, b, c, d = (f"images/{name}.jpg" for name in names)
    return ("Abyssinian", "american bulldog"), {a, b}, {c, d}


def cars(home: Path) -> Expected:
    root = home / "stanford_cars"

    def notes(*rows: tuple[str, int]) -> dict[str, Any]:
        return {"annotations": np.array(list(rows), dtype=[("fname", object), ("class", object)])}

    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(["Audi TT 2011", "BMW M3 2012"], dtype=object)})
    savemat(root / "devkit/cars_train_annos.mat", notes(("1.jpg", 2), ("2.jpg", 1)))
    savemat(root / "cars_test_annos_withlabels.mat", notes(("1.jpg", 1), ("2.jpg", 2)))
    draw(root, "cars_train/1.jpg", "cars_train/2.jpg", "cars_test/1.jpg", "cars_test/2.jpg")
    names = ("Audi TT 2011", "BMW M3 2012")
    return names, {"cars_train/1.jpg", "cars_train/2.jpg"}, {"cars_test/1.jpg", "cars_test/2.jpg"}


def flowers102(home: Path) -> Expected:
    root = home / "flowers-102"
    root.mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": np.array([[2, 1, 2, 1, 2]])})
    savemat(root / "setid.mat", {"trnid": np.array([[1, 2]]), "valid": np.array([[3]]), "tstid": np.array([[4, 5]])})
    a, b, c, d, e = (f"jpg/image_0000{k}.jpg" for k in range(1, 6))
    draw(root, a, b, c, d, e)
    return ("pink primrose", "hard-leaved pocket orchid"), {a, b, c}, {d, e}


def cub200(home: Path) -> Expected:
    files = [f"00{c}.{name}/{k}.jpg" for c, name in ((1, "Black_footed_Albatross"), (2, "Ani")) for k in (1, 2)]
    write(home / "CUB_200_2011", {
        "images.txt": [f"{k} {file}" for k, file in enumerate(files, 1)],
        "train_test_split.txt": ["1 1", "2 0", "3 0", "4 1"],
    })  # fmt: skip
    draw(home / "CUB_200_2011", *(f"images/{file}" for file in files), "parts/no.png")
    a, b, c, d = (f"images/{file}" for file in files)
    return ("Black footed Albatross", "Ani"), {a, d}, {b, c}


def cub_of_pilot(home: Path) -> Expected:
    a, b = "train/001.Ani/1.jpg", "train/002.Black_Tern/1.jpg"
    c, d = "test/001.Ani/2.jpg", "test/002.Black_Tern/2.jpg"
    draw(home / "cub", a, b, c, d)
    return ("Ani", "Black Tern"), {a, b}, {c, d}


def cub_of_the_hub(home: Path) -> Expected:
    names = ["001.Ani", "002.Black_Tern"]
    for split, rows in (("train", 3), ("test", 2)):
        cells = [encoded(picture(k)) for k in range(rows)]
        table(home / "data" / f"{split}-00000-of-00001.parquet", cells, [k % 2 for k in range(rows)], names)
    return ("Ani", "Black Tern"), {"train/0", "train/1", "train/2"}, {"test/0", "test/1"}


def sun397(home: Path) -> Expected:
    a, b, c = "a/abbey/sun_1.jpg", "b/bakery/shop/sun_2.jpg", "a/abbey/sun_3.jpg"
    write(home / "SUN397", {"Training_01.txt": [f"/{a}", f"/{b}"], "Testing_01.txt": [f"/{c}"]})
    draw(home / "SUN397", a, b, c, "a/abbey/sun_not_listed.jpg")
    return ("abbey", "bakery shop"), {a, b}, {c}


def ucf101(home: Path) -> Expected:
    rows = [["Apply_Eye_Makeup/v_1.jpg", 0, "Apply_Eye_Makeup"], ["Archery/v_1.jpg", 1, "Archery"]]
    rows += [["Archery/v_2.jpg", 1, "Archery"], ["Apply_Eye_Makeup/v_2.jpg", 0, "Apply_Eye_Makeup"]]
    home.mkdir(parents=True)
    split = {"train": rows[:1], "val": rows[1:2], "test": rows[2:]}
    (home / "split_zhou_UCF101.json").write_text(json.dumps(split))
    paths = [f"UCF-101-midframes/{path}" for path, *_ in rows]
    draw(home, *paths)
    return ("Apply Eye Makeup", "Archery"), set(paths[:2]), set(paths[2:])


def tiny_imagenet(home: Path) -> Expected:
    root = home / "tiny-imagenet-200"
    write(root, {
        "wnids.txt": ["n01443537", "n01440764"],
        "val/val_annotations.txt": ["val_0.JPEG\tn01443537\t0\t0\t62\t57", "val_1.JPEG\tn01440764\t1\t1\t2\t2"],
    })  # fmt: skip
    a, b = (f"train/{wnid}/images/{wnid}_0.JPEG" for wnid in ("n01440764", "n01443537"))
    draw(root, a, b, "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG")
    return ("tench", "goldfish"), {a, b}, {"val/images/val_0.JPEG", "val/images/val_1.JPEG"}


def domainnet(home: Path) -> Expected:
    train = [f"{d}/axe/{d}_1.jpg 0" for d in DOMAINS] + [f"{d}/baseball_bat/{d}_2.jpg 1" for d in DOMAINS]
    test = [f"{d}/axe/{d}_3.jpg 0" for d in DOMAINS]
    for part, lines in (("train", train), ("test", test)):
        write(home, {f"{d}_{part}.txt": [line for line in lines if line.startswith(d)] for d in DOMAINS})
        draw(home, *(line.split()[0] for line in lines))
    return ("axe", "baseball bat"), {line.split()[0] for line in train}, {line.split()[0] for line in test}


def core50(home: Path) -> Expected:
    names = {session: [f"s{session}/o{thing}/C_{session}_{thing}.png" for thing in (1, 2)] for session in (1, 3, 10)}
    draw(home / "core50_128x128", *(name for each in names.values() for name in each))
    return ("plug adapter 1", "plug adapter 2"), set(names[1]), {*names[3], *names[10]}


def whole(home: Path, names: Iterable[str]) -> Expected:
    """Five images of each class, one of which is held out: by name, so we can say which."""
    every = {f"{name}/{k}.jpg" for name in names for k in range(5)}
    draw(home, *every)
    test = {
        min((f"{name}/{k}.jpg" for k in range(5)), key=lambda path: hashlib.sha256(path.encode()).digest())
        for name in names
    }
    return (), every - test, test


def imagenet_r(home: Path) -> Expected:
    _, train, test = whole(home / "imagenet-r", ("n01443537", "n01484850"))
    (home / "imagenet-r" / "README.txt").write_text("renditions")
    return ("goldfish", "great white shark"), train, test


def caltech101(home: Path) -> Expected:
    _, train, test = whole(home / "caltech-101" / "101_ObjectCategories", ("accordion", "wild_cat"))
    draw(home / "caltech-101" / "101_ObjectCategories", "BACKGROUND_Google/image_0001.jpg")
    return ("accordion", "wild cat"), train, test


def eurosat(home: Path) -> Expected:
    _, train, test = whole(home / "eurosat" / "2750", ("AnnualCrop", "River"))
    return ("annual crop land", "river"), train, test


def objectnet(home: Path) -> Expected:
    root = home / "objectnet-1.0"
    (root / "mappings").mkdir(parents=True)
    draw(root, "images/air_freshener/1.png", "images/alarm_clock/2.png")
    return ("air freshener", "alarm clock"), set(), {"air_freshener/1.png", "alarm_clock/2.png"}


LAYOUTS: dict[str, tuple[str, Callable[[Path], Expected]]] = {
    **{name: (name, maker) for name, maker in (
        ("food101", food101), ("dtd", dtd), ("aircraft", aircraft), ("pets", pets), ("cars", cars),
        ("flowers102", flowers102), ("cub200", cub200), ("sun397", sun397), ("ucf101", ucf101),
        ("tiny-imagenet", tiny_imagenet), ("domainnet", domainnet), ("core50", core50), ("imagenet-r", imagenet_r),
        ("imagenet-a", imagenet_r), ("caltech101", caltech101), ("eurosat", eurosat), ("objectnet", objectnet),
    )},
    "cub200, PILOT": ("cub200", cub_of_pilot),
    "omnibenchmark": ("omnibenchmark", cub_of_pilot),
    "vtab": ("vtab", cub_of_pilot),
    "cub200, hub": ("cub200", cub_of_the_hub),
}  # fmt: skip


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CILLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def of_two(name: str, **changes: Any) -> DataSet:
    """The entry as if the set had two classes."""
    return named_set(name).model_copy(update={"classes": 2, **changes})


def ids_of(source: Any, split: Any) -> set[str]:
    return set(source.ids(split, np.arange(len(source.labels(split)))))


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_layout_gives_its_names_and_its_division(case: str, data: Path) -> None:
    name, make = LAYOUTS[case]
    classes, train, test = make(data / name)
    source = open_named(of_two(name), Options())
    if name in ("omnibenchmark", "vtab"):
        classes = tuple(readable(named_set(name), ("001.Ani", "002.Black_Tern")))
    assert source.class_names == classes
    assert ids_of(source, "train") == train
    assert ids_of(source, "test") == test
    assert source.images("test", np.arange(len(test))).shape == (len(test), 3, 10, 12)
    assert source.name == name
    assert "no known division" in source.notes[0]


@pytest.mark.parametrize(
    ("name", "make", "splits"),
    [
        ("food101", torchvision.Food101, ("train", "test")),
        ("aircraft", torchvision.FGVCAircraft, ("trainval", "test")),
        ("pets", torchvision.OxfordIIITPet, ("trainval", "test")),
        ("cars", torchvision.StanfordCars, ("train", "test")),
        ("flowers102", torchvision.Flowers102, ("train", "test")),
        ("dtd", torchvision.DTD, ("train", "test")),
    ],
)
def test_torchvision_reads_the_same_files_in_the_same_way(
    name: str, make: Callable[[Path, str], Any], splits: tuple[str, str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image by image: the same pixels with the same class id. (Ours takes validation images for training as well.)"""
    LAYOUTS[name][1](data / name)
    monkeypatch.setattr(torchvision.Flowers102, "_check_integrity", lambda self: True)
    source = open_named(of_two(name), Options())
    for split, theirs in zip(SPLITS, splits, strict=True):
        every = np.arange(len(source.labels(split)))
        ours = {
            (pixels.tobytes(), label)
            for pixels, label in zip(source.images(split, every), source.labels(split).tolist(), strict=True)
        }
        other = make(data / name, theirs)
        given = {(np.asarray(image).transpose(2, 0, 1).tobytes(), label) for image, label in other}
        assert given <= ours if split == "train" else given == ours


def test_cifar10_is_read_record_by_record(tmp_path: Path) -> None:
    rng, known = np.random.default_rng(0), ARCHIVES["cifar10"]
    rows = {name: rng.integers(0, 256, (3, 3073), dtype=np.uint8) for name in (*known.members[0], *known.members[1])}
    content = {name: part.tobytes() for name, part in rows.items()} | {known.names: b"plane\ncar\n"}
    path = tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, body in content.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    archive = Archive(path.as_uri(), digest, known.name, known.labels, known.members, known.names)
    source = open_cifar(archive, Options(cache=tmp_path / "cache"), path.parent)
    every = np.concatenate([rows[name] for name in known.members[0]])
    assert source.class_names == ("plane", "car")
    assert np.array_equal(source.labels("train"), every[:, 0])
    assert np.array_equal(source.images("train", np.arange(15)).reshape(15, -1), every[:, 1:])
    with pytest.raises(DataError, match="expected c32a1d4a"):  # by its name: the real archive is wanted
        open_source("cifar10")


# --- the catalogue -------------------------------------------------------------------------------------------------


def test_every_entry_says_where_from_how_much_and_what_is_allowed() -> None:
    assert len(named_sets()) == 21
    for name, entry in named_sets().items():
        assert entry.archives or entry.hub or entry.by_hand, name
        assert entry.licence, name
        assert entry.homepage.startswith("http"), name
        for one in (*entry.archives, *entry.by_hand):
            assert one.md5 == "" or (len(one.md5) == 32 and int(one.md5, 16)), name
        for train, test in entry.counts.values():
            assert (train > 0) is entry.may_train, name
            assert not entry.whole or train + test in (entry.whole, 8242), name  # CoOp leaves one class of Caltech out
    assert [name for name, entry in named_sets().items() if not entry.may_train] == ["objectnet"]


def test_md5_sums_are_those_that_torchvision_checks() -> None:
    theirs = {
        "food101": torchvision.Food101._MD5,
        "dtd": torchvision.DTD._MD5,
        "sun397": torchvision.SUN397._DATASET_MD5,
        "flowers102": torchvision.Flowers102._file_dict["image"][1],
        "pets": torchvision.OxfordIIITPet._RESOURCES[0][1],
    }
    assert {name: named_set(name).archives[0].md5 for name in theirs} == theirs


def test_the_rule_is_frozen() -> None:
    labels = np.arange(1000) % 7
    ids = [f"somewhere/{k}/image {k:04}.jpg" for k in range(1000)]
    parts = fifth_by_name(labels, [f"class {c}" for c in range(7)], ids)
    assert hashlib.sha256(",".join(map(str, parts["test"].tolist())).encode()).hexdigest() == DIGEST
    assert sorted([*parts["train"], *parts["test"]]) == list(range(1000))
    fewer = fifth_by_name(labels[labels == 3], ["", "", "", "class 3"], [ids[k] for k in np.flatnonzero(labels == 3)])
    assert np.array_equal(np.flatnonzero(labels == 3)[fewer["test"]], [k for k in parts["test"] if labels[k] == 3])


def test_the_division_does_not_depend_on_where_the_folder_lies(data: Path, tmp_path: Path) -> None:
    imagenet_r(data / "imagenet-r")
    here = split_digest(open_named(of_two("imagenet-r"), Options()))
    shutil.move(data / "imagenet-r" / "imagenet-r", tmp_path / "other")
    shutil.rmtree(data / "imagenet-r")
    shutil.move(tmp_path / "other", data / "imagenet-r")
    assert split_digest(open_named(of_two("imagenet-r"), Options())) == here


def test_names_for_text_stay_different() -> None:
    entry = named_set("imagenet-r")
    assert readable(entry, ("n02105855", "not a wnid")) == ("Shetland Sheepdog", "not a wnid")
    two = readable(named_set("food101"), ("ice_cream", "ice cream"))
    assert len(set(two)) == 2


# --- what is not what it should be ---------------------------------------------------------------------------------


def test_a_set_that_is_not_here_says_which_files_go_where(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        rf"cub200 is not on this machine. `cillab data fetch cub200` .*Put it into {data}/cub200 in one of.*images.txt"
    )
    for ask in (lambda: open_source("cub200"), lambda: refuse_early(RunSpec.of({"data": "shields + cub200"}))):
        with pytest.raises(HubError, match=words) as raised:
            ask()
        assert "\n" not in str(raised.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'cub200'"):
        named_set("cub20")
    monkeypatch.delenv("CILLAB_DATA")
    assert [str(home)[-17:] for home in homes(named_set("cub200"))] == ["cache/data/cub200"]


def test_parts_and_damaged_lists_are_refused(data: Path) -> None:
    cub_of_pilot(data / "cub200")
    with pytest.raises(DataError, match=r"cub200 has 200 classes, .* holds 2 \('001.Ani'"):
        open_source("cub200")
    food101(data / "food101")
    (data / "food101/food-101/images/pho/4.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 listed images are not there: 'images/pho/4\.jpg'"):
        open_named(of_two("food101"), Options())
    (data / "food101/food-101/meta/test.txt").write_text("pho/1\nnonsense\n")
    with pytest.raises(DataError, match=r"test\.txt, line 2: 'nonsense'"):
        open_named(of_two("food101"), Options())


@pytest.mark.parametrize("make", [cub_of_pilot, cub_of_the_hub])
def test_a_part_of_a_set_is_read_as_its_refusal_says(make: Callable[[Path], Expected], data: Path) -> None:
    make(data / "cub200")
    with pytest.raises(DataError, match=r"Read parts of it by (folder|parquet):/\S+\.$") as caught:
        open_source("cub200")
    assert len(open_source(str(caught.value).split()[-1].rstrip(".")).class_names) == 2


@pytest.mark.parametrize("line", ["../../secret/1", "pho/../../../../secret/1"])
def test_a_list_cannot_show_another_file_of_this_machine(line: str, data: Path) -> None:
    food101(data / "food101")
    draw(data, "secret/1.jpg")
    (data / "food101/food-101/meta/test.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match="which is not below it"):
        open_named(of_two("food101"), Options())


@pytest.mark.parametrize("wrapped", ["{}", "held-out:{}", "shields + {}"])
def test_evaluation_only_refuses_training_in_one_line(wrapped: str, data: Path) -> None:
    objectnet(data / "objectnet")
    name = wrapped.format("objectnet")
    for ask in (lambda: make_stream(name), lambda: refuse_early(RunSpec.of({"data": name}))):
        with pytest.raises(InvalidRequestError, match="objectnet' is for evaluation only: its licence forbids") as said:
            ask()
        assert "\n" not in str(said.value)


def test_evaluation_only_still_shows_its_images(data: Path) -> None:
    """As docs/data.md does it: on the canvas of a backbone, all of them test images."""
    objectnet(data / "objectnet")
    source = open_named(of_two("objectnet"), Options())
    canvas = Preprocessing(20, 0.8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert source.images("test", np.arange(2), canvas).shape == (2, 3, canvas.resize, canvas.resize)
    assert check_set(of_two("objectnet", counts={"official": (0, 2)}), Options()).faults == []


# --- getting them --------------------------------------------------------------------------------------------------


def offline(*_args: object, **_kwargs: object) -> None:
    raise ConnectionError("no network")


def test_without_a_network_there_is_one_message(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "download_url", offline)
    monkeypatch.setattr(fetching, "snapshot_download", offline)
    for name in ("cub200", "vtab"):
        with pytest.raises(HubError, match=rf"^{name}.* Put it into {data}/{name} in one of") as said:
            fetching.fetch_set(named_set(name), homes(named_set(name))[0])
        assert "\n" not in str(said.value)
    assert not data.exists() or not any(data.iterdir())


def packed(folder: Path, make: Callable[[Path], Expected], target: Path) -> str:
    make(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = "zip" if target.suffix == ".zip" else "gztar"
    Path(shutil.make_archive(str(folder.with_name("made")), kind, folder)).replace(target)
    return hashlib.md5(target.read_bytes()).hexdigest()


def test_an_archive_is_downloaded_checked_and_unpacked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "made-of", cub200, tmp_path / "CUB_200_2011.tgz")
    asked = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((url, md5))
        shutil.copy(tmp_path / filename, root)

    monkeypatch.setattr(fetching, "download_url", download)
    entry = of_two("cub200")
    place = fetching.fetch_set(entry, homes(entry)[0])
    assert asked == [(entry.archives[0].url, entry.archives[0].md5)]
    assert place.folder == data / "cub200" / "CUB_200_2011"
    assert sorted(path.name for path in (data / "cub200").iterdir()) == ["CUB_200_2011"]
    assert len(open_named(entry, Options()).labels("train")) == 2
    fetching.fetch_set(entry, homes(entry)[0])  # it is there: nothing is asked
    assert len(asked) == 1


def test_the_hub_is_asked_where_the_host_is_gone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(repo: str, *, repo_type: str, local_dir: Path, allow_patterns: list[str]) -> None:
        assert (repo, repo_type, allow_patterns) == ("Donghyun99/CUB-200-2011", "dataset", ["*.parquet"])
        cub_of_the_hub(Path(local_dir))

    monkeypatch.setattr(fetching, "download_url", offline)
    monkeypatch.setattr(fetching, "snapshot_download", snapshot)
    entry = of_two("cub200")
    assert fetching.fetch_set(entry, homes(entry)[0]).layout.kind == "parquet"
    assert len(open_named(entry, Options()).labels("train")) == 3


def test_an_archive_put_there_by_hand_needs_no_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "download_url", offline)
    monkeypatch.setattr(fetching, "snapshot_download", offline)
    digest = packed(tmp_path / "made-of", cub_of_pilot, data / "cub200" / "cub.zip")
    with pytest.raises(DataError, match=f"cub.zip: md5 {digest}, expected 85e342"):
        fetching.fetch_set(named_set("cub200"), data / "cub200")
    entry = of_two("cub200")
    entry = entry.model_copy(update={"by_hand": (entry.by_hand[0].model_copy(update={"md5": digest}),)})
    assert fetching.fetch_set(entry, data / "cub200").layout.kind == "classes"
    assert len(open_named(entry, Options()).labels("test")) == 2


# --- checking them -------------------------------------------------------------------------------------------------


def test_a_whole_set_passes(data: Path) -> None:
    cub200(data / "cub200")
    said = check_set(of_two("cub200", counts={"official": (2, 2)}), Options())
    assert said.faults == []
    assert said.lines["images"] == "2 training, 2 test: the official division"
    assert said.lines["broken"] == "none of 4 images"
    assert len(said.lines["division"].split()[1]) == 64


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_layout_is_checked(case: str, data: Path) -> None:
    name, make = LAYOUTS[case]
    _, train, test = make(data / name)
    entry = of_two(name, counts={"official": (len(train), len(test))})
    said = check_set(entry, Options())
    assert said.faults == []
    assert said.lines["classes"] == "2 of 2" and said.lines["broken"] == f"none of {len(train) + len(test)} images"
    assert said.lines["images"] == f"{len(train)} training, {len(test)} test: the official division"


def test_everything_wrong_is_named_in_one_pass(data: Path) -> None:
    cub200(data / "cub200")
    root = data / "cub200" / "CUB_200_2011" / "images"
    (root / "001.Black_footed_Albatross" / "1.jpg").write_bytes(b"no image")
    (root / "002.Ani" / "2.jpg").write_bytes((root / "002.Ani" / "1.jpg").read_bytes())
    (root / "001.Black_footed_Albatross" / "2.jpg").write_bytes(b"")
    (data / "cub200" / "CUB_200_2011.tgz").write_bytes(b"cut")
    said = check_set(of_two("cub200"), Options())
    assert said.faults == [
        "CUB_200_2011.tgz has another checksum", "the numbers of images are those of no known division",
        "2 broken images",
    ]  # fmt: skip
    assert said.lines["broken"].count("cannot be read as an image") == 2
    assert "1 test images are byte for byte a training image: images/002.Ani/1.jpg" in said.lines["twins"]
    assert "expected 97eceeb196236b17998738112f37df78" in said.lines["md5 CUB_200_2011.tgz"]
    assert "broken" not in check_set(of_two("cub200"), Options(), decode=False).lines


def test_a_folder_of_ones_own_is_checked_too(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("ant", "bee"):
        draw(data / "mine", f"test/{kind}/0.jpg", *(f"train/{kind}/{k}.jpg" for k in range(3)))
    whole = check_own(f"folder:{data}/mine")
    assert whole.lines["note 1"] == "2 classes, 6 training images, 2 test images (from test/)."
    assert (whole.lines["broken"], whole.faults) == ("none of 8 images", [])
    (data / "mine/train/ant/1.jpg").write_bytes(b"cut")
    (data / "mine/test/bee/0.jpg").write_bytes((data / "mine/train/bee/2.jpg").read_bytes())
    said = check_own(f"folder:{data}/mine")
    assert said.faults == ["1 broken images"] and "train/ant/1.jpg cannot be read" in said.lines["broken"]
    assert said.lines["twins"] == "1 test images are byte for byte a training image: test/bee/0.jpg"
    assert sum("byte for byte" in line for line in said.lines.values()) == 1 and not caplog.records
    assert "byte for byte" in check_own(f"folder:{data}/mine", decode=False).lines["note 2"]
    assert "broken" not in check_own(f"folder:{data}/mine", decode=False).lines


def test_the_command_line(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from cillab.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cillab", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    cub200(data / "cub200")
    smaller = {**named_sets(), "cub200": of_two("cub200")}
    for module in ("cillab.protocol.named", "cillab.data"):
        monkeypatch.setattr(f"{module}.named_sets", lambda: smaller)
    code, out, _ = run("data", "list")
    assert code == 0
    assert "* cub200 " in out
    assert "  dtd " in out
    assert run("data", "where", "cub200")[1].startswith(f"cub200  {data}/cub200/CUB_200_2011  (CUB_200_2011/images.txt")
    _, out, _ = run("data", "where", "dtd")
    assert f"Put it into {data}/dtd in one of" in out
    assert "md5        dtd-r1.0.1.tar.gz fff73e5086ae6bdbea199a49dfb8a4c1" in out
    code, out, error = run("data", "check", "cub200")
    assert code == 2
    assert "broken     none of 4 images" in out
    assert error.startswith("cillab: cub200: the numbers of images are those of no known division")
    code, _, error = run("data", "fetch", "vtab")
    assert code == 2
    assert error.splitlines()[-1].startswith(f"cillab: vtab cannot be downloaded by a program. Put it into {data}/vtab")
    assert run("data", "check", "cubs")[0] == 2
