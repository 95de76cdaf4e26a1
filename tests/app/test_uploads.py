"""What is sent is refused unless it is what it says: images that are images, zips that hold a run and nothing else."""

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cillab.core.errors import CillabError, InvalidRequestError, RunError
from cillab.lab.spec import RunSpec
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("streamlit")
from app.shell import folders, safety
from app.views.bring_your_own import uploads

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CILLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("CILLAB_READONLY", raising=False)
    return tmp_path / "runs"


@dataclass
class File:
    name: str
    content: bytes
    claimed: int | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.claimed is None else self.claimed

    def getvalue(self) -> bytes:
        return self.content


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    draw = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(draw).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few kilobytes that says it has 3.6 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(b"\x00" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_real_images_are_taken(kind) -> None:
    taken, refused = uploads.images([File(f"a.{kind.lower()}", picture(kind))])
    assert len(taken) == 1 and refused == []


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_mode_can_be_shown(mode) -> None:
    assert uploads.square(picture("PNG", mode=mode), 32).size == (32, 32)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (File("bomb.png", bomb()), "pixels"),
        (File("big.png", bomb(8000, 8000)), "pixels"),
        (File("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"),
        (File("a.png", b"\xef\xbb\xbf <?xml version='1.0'?><svg onload='alert(1)'/>"), "SVG"),
        (File("a.png", b"<!-- x --><SVG/>"), "SVG"),
        (File("text.png", b"hello, I am text" * 100), "not an image"),
        (File("cut.jpg", picture("JPEG", (400, 400))[:-3000]), "cannot be read as an image"),
        (File("empty.png", b""), "not an image"),
        (File("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"), "not an image"),
        (File("huge.png", picture(), claimed=11 * 2**20), "the limit is 10 MB"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(file, says) -> None:
    taken, refused = uploads.images([file, File("good.png", picture())])
    assert [name for name, _ in taken] == ["good.png"]
    assert len(refused) == 1 and says in refused[0] and "\n" not in refused[0]


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch) -> None:
    def explode(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", explode)
    assert "pixels" in uploads.refuse_image("bomb.png", bomb())


def test_fifty_images_and_no_more() -> None:
    content = picture()
    assert len(uploads.images([File(f"{i}.png", content) for i in range(50)])[0]) == 50
    with pytest.raises(InvalidRequestError, match="51 files, the limit is 50"):
        uploads.images([File(f"{i}.png", content) for i in range(51)])


def zipped(path: Path, prefix: str = "", more: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(path).as_posix())
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "my run/", "a/b/"])
def test_a_run_folder_comes_back_as_it_was(tmp_path, runs, prefix) -> None:
    path = write_synthetic_run(tmp_path / "x", tasks=3, cams=True)
    target = uploads.unpack_run(
        zipped(path, prefix, {f"{prefix}notes.txt": b"hi", "__MACOSX/._run.json.x": b"?"}), "sent"
    )
    assert target == runs / "sent" and Run(target).steps == Run(path).steps
    np.testing.assert_array_equal(Run(target).snapshot()["logits"], Run(path).snapshot()["logits"])
    assert not (target / "notes.txt").exists() and Run(target).liveness() == "finished"
    assert [p.name for p in runs.iterdir()] == ["sent"]


def test_a_foreign_process_is_forgotten(tmp_path) -> None:
    """A status that names a process must not make `cancel` signal a stranger of this machine."""
    path = write_synthetic_run(tmp_path / "x", tasks=3, finished=False)
    target = uploads.unpack_run(zipped(path), "sent")
    assert Run(target).status.pid is None and Run(target).liveness() == "cancelled"


def link(path: Path) -> bytes:
    buffer = io.BytesIO(zipped(path))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("result.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def encrypted_flag(path: Path) -> bytes:
    content = bytearray(zipped(path))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: zipped(path, more={"../evil.py": b"x"}), "leads out"),
        (lambda path: zipped(path, more={"/etc/evil": b"x"}), "leads out"),
        (lambda path: zipped(path, more={"steps\\..\\..\\evil": b"x"}), "leads out"),
        (lambda path: zipped(path, more={"C:/evil": b"x"}), "leads out"),
        (link, "is a link"),
        (encrypted_flag, "encrypted"),
        (lambda path: zipped(path, more={"log.txt": b"\x00" * 50_000_000}), "bomb"),
        (lambda path: zipped(path, more={f"x/{i}": b"" for i in range(5001)}), "1 to 5000"),
        (lambda path: zipped(path, more={"b/run.json": b"{}"}), "exactly one"),
        (lambda path: zipped(path, "a/b/c/"), "near the top"),
        (lambda path: b"no zip at all", "not a zip"),
        (lambda path: zipped(path)[:-200], "not a zip"),
        (lambda path: zipped(path / "steps"), "0 run.json"),
    ],
)
def test_other_archives_are_refused_and_leave_nothing(tmp_path, runs, make, says) -> None:
    path = write_synthetic_run(tmp_path / "x", tasks=2)
    for name in ("status.json", "result.json"):
        (path / name).unlink()  # the cases above add their own
    with pytest.raises(InvalidRequestError, match=says):
        uploads.unpack_run(make(path), "sent")
    assert list(runs.iterdir()) == [] if runs.exists() else True
    assert not (tmp_path / "evil.py").exists()


def test_a_damaged_run_is_named_and_leaves_nothing(tmp_path, runs) -> None:
    path = write_synthetic_run(tmp_path / "x", tasks=2)
    step = path / "steps" / "t01.safetensors"
    step.write_bytes(step.read_bytes()[:100])
    with pytest.raises(CillabError, match=r"t01\.safetensors is damaged"):
        uploads.unpack_run(zipped(path), "sent")
    assert list(runs.iterdir()) == []


def test_an_atlas_that_is_a_bomb_is_refused(tmp_path, runs) -> None:
    path = write_synthetic_run(tmp_path / "x", tasks=2)
    sprites = Run(path).probe.sprites
    sprites.write_bytes(bomb())
    with pytest.raises(CillabError, match="is damaged"):
        uploads.unpack_run(zipped(path), "sent")


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", ""])
def test_the_name_is_no_path(tmp_path, name) -> None:
    with pytest.raises(InvalidRequestError, match="Run name"):
        uploads.unpack_run(zipped(write_synthetic_run(tmp_path / "x", tasks=2)), name)


def test_a_run_that_is_there_stays(tmp_path, runs) -> None:
    path = write_synthetic_run(runs / "sent", tasks=2)
    with pytest.raises(RunError, match="is taken"):
        uploads.unpack_run(zipped(path), "sent")
    assert uploads.free_name("sent.zip") == "sent-2"
    assert uploads.free_name("../../<b>é.zip") == "b"


def dataset(root: Path, name: str, divided: bool = False) -> Path:
    for split in ("train", "test") if divided else ("",):
        for label in ("cat", "dog"):
            folder = root / name / split / label
            folder.mkdir(parents=True)
            (folder / "0.png").write_bytes(picture())
    return root / name


def test_only_folders_of_images_below_the_root_are_offered(tmp_path, monkeypatch) -> None:
    root = tmp_path / "data"
    dataset(root, "pets")
    dataset(root, "more/birds", divided=True)
    (root / "empty").mkdir()
    dataset(tmp_path, "outside")
    (root / "way-out").symlink_to(tmp_path / "outside")
    monkeypatch.setenv("CILLAB_DATA", str(root))
    assert sorted(folders.candidates()) == ["more/birds", "pets"]
    assert folders.describe("pets") == folders.Described(2, 2, None, "")
    assert folders.describe("more/birds") == folders.Described(2, 4, "test", "")
    folders.register("pets")
    assert list(folders.registered()) == ["pets"]
    for name in ("../outside", "way-out", str(tmp_path / "outside"), "empty", "none"):
        with pytest.raises(InvalidRequestError):
            folders.register(name)
    folders.forget("pets")
    assert folders.registered() == {}


def test_folders_are_read_as_the_library_reads_them(tmp_path, monkeypatch) -> None:
    root = tmp_path / "data"
    dataset(root, "zip/mine", divided=True)
    (root / "zip/mine/train").rename(root / "zip/mine/Training")
    (root / "zip/mine/test").rename(root / "zip/mine/Validation")
    (root / "zip/__MACOSX").mkdir()
    (root / "zip/mine/Training/cat/notes.txt").write_text("words")
    (root / "zip/mine/Training/cat/more.jfif").write_bytes(picture("JPEG"))
    dataset(root, "class-named-train")
    dataset(root / "class-named-train", "train").rename(root / "class-named-train" / "bus")
    monkeypatch.setenv("CILLAB_DATA", str(root))
    assert "zip/mine" in folders.candidates()
    found = folders.describe("zip")
    assert (found.classes, found.images, found.test) == (2, 5, "Validation")
    assert "1 .txt file" in found.passed


@pytest.mark.parametrize("link", ["pets/cat/more", "pets/cow", "pets/cat/1.png", "pets/train"])
def test_a_link_out_of_the_root_is_named_before_anything_is_read(link, tmp_path, runs, monkeypatch) -> None:
    root, outside = tmp_path / "data", dataset(tmp_path, "outside")
    dataset(root, "pets")
    (root / "pets/inner").symlink_to(root / "pets/dog")  # stays below the root
    monkeypatch.setenv("CILLAB_DATA", str(root))
    spec = RunSpec.of({"data": f"folder:{root}/pets"})
    assert folders.describe("pets").classes == 3
    safety.spec_must_be_declared(spec)
    (root / link).symlink_to(outside / "cat/0.png" if link.endswith(".png") else outside)
    said = f"'{link.removeprefix('pets/')}' in 'pets' is a link out of this app's data folder"
    for asked in (
        lambda: folders.register("pets"),
        lambda: safety.spec_must_be_declared(spec),
        lambda: safety.spec_must_be_declared(RunSpec.of({"data": f"digits + held-out:folder:{root}/pets"})),
    ):
        with pytest.raises(InvalidRequestError, match=said):
            asked()


def grey_of_16_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint16) * 1024, (64, 1))).save(buffer, "PNG")
    return buffer.getvalue()


def floating_point() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [grey_of_16_bits(), floating_point()], ids=["16 bits", "floating point"])
def test_thumbnails_have_the_grey_values_that_the_learner_gets(content) -> None:
    assert uploads.refuse_image("a", content) == ""
    shown = np.asarray(uploads.square(content, 64))[32, :, 0].astype(int)
    assert shown[0] < 8 and shown[-1] > 247 and np.abs(shown - np.linspace(0, 252, 64)).max() < 6


def test_grey_values_on_no_known_scale_are_refused_in_the_reader_s_words() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), -3.0, dtype=np.float32)).save(buffer, "TIFF")
    assert "on no known scale" in uploads.refuse_image("a.tif", buffer.getvalue())


def test_a_hand_written_list_leads_nowhere(tmp_path, runs, monkeypatch) -> None:
    dataset(tmp_path / "data", "pets")
    runs.mkdir()
    (runs / ".folders.json").write_text('["pets", "../..", "/etc", 7]')
    monkeypatch.setenv("CILLAB_DATA", str(tmp_path / "data"))
    assert list(folders.registered()) == ["pets"]
    monkeypatch.delenv("CILLAB_DATA")
    assert folders.registered() == {} and folders.candidates() == []


@pytest.mark.parametrize("data", ["folder:/etc", "parquet:../x", "folder:~"])
def test_requests_name_no_file_outside_the_root(data, tmp_path, monkeypatch) -> None:
    with pytest.raises(InvalidRequestError, match="Start the app with CILLAB_DATA=FOLDER"):
        safety.must_be_declared(data)
    monkeypatch.setenv("CILLAB_DATA", str(tmp_path))
    with pytest.raises(InvalidRequestError, match="outside"):
        safety.must_be_declared(data)
    with pytest.raises(InvalidRequestError, match="outside"):
        safety.must_be_declared("shields", weights="/etc/passwd")
    for order in ("/etc/passwd", "~/order.json", "../order.json"):
        with pytest.raises(InvalidRequestError, match="CILLAB_DATA"):
            safety.must_be_declared("shields", order=order)
    for local in ("hf:/etc", "hf:./here", "hf:~/there"):
        with pytest.raises(InvalidRequestError, match="CILLAB_DATA"):
            safety.must_be_declared(local)
    safety.must_be_declared("hf:owner/name", order="3,1,2")
    spec = RunSpec.of({"data": "shields", "order": "/etc/passwd"})
    with pytest.raises(InvalidRequestError, match="/etc/passwd"):
        safety.spec_must_be_declared(spec)
    safety.must_be_declared(f"folder:{tmp_path}/a")
    safety.must_be_declared("shields")


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("true", True), ("", False), ("0", False), ("no", False)])
def test_read_only_is_said_by_the_environment(value, is_on, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_READONLY", value)
    assert safety.read_only() is is_on
