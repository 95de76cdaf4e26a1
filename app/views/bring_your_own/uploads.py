"""What a visitor sends, before anything is done with it: images that are images, run folders that are nothing else."""

import io
import json
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image, ImageOps

from app.shell import safety
from app.shell.store import runs_folder
from cillab import figures
from cillab.core.errors import CillabError, DataError, InvalidRequestError, RunError, UnknownNameError, one_line
from cillab.lab.queue import valid_name
from cillab.runs import Run
from cillab.runs.checks import check
from cillab.runs.files import write_json
from cillab.runs.run import parse_step

MOST_IMAGES = 50
IMAGE_BYTES = 10 * 2**20  # of one image file
PIXELS = 40_000_000  # of one image: 120 MB once decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff")

ZIP_BYTES = safety.UPLOAD_BYTES  # of an archive
UNPACKED_BYTES = 1_000 * 2**20
MEMBERS = 5_000
_RATIO = 200  # unpacked over packed; text compresses to a hundredth, bombs to a thousandth
_FILES = frozenset(("run.json", "spec.yaml", "metrics.jsonl", "status.json", "result.json", "log.txt"))
_FOLDERS = {"steps": (".safetensors",), "checkpoints": (".safetensors",), "probe": (".json", ".webp", ".png")}


class Sent(Protocol):
    """A file as Streamlit hands it over."""

    name: str
    size: int

    def getvalue(self) -> bytes:
        """Its bytes."""
        ...


def refuse_image(name: str, content: bytes) -> str:
    """Why this file is not taken, in one line; empty when it is. Nothing is decoded before its size is known."""
    if len(content) > IMAGE_BYTES:
        return f"{name}: {len(content) / 2**20:.0f} MB, the limit is {IMAGE_BYTES // 2**20} MB."
    head = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if (
        head.startswith((b"<?xml", b"<svg", b"<!doctype svg"))
        or b"<svg" in head
        or name.lower().endswith((".svg", ".svgz"))
    ):
        return f"{name}: SVG is a program that draws, not an image. Save it as PNG."
    return _damage(name, content)


def _damage(name: str, content: bytes) -> str:
    """What the library's reader has against an image, once its size is known to be small enough."""
    from cillab.streams.pictures import decode  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXELS:
                    return f"{name}: {width} x {height} pixels, the limit is {PIXELS // 1_000_000} million."
                image.verify()
            decode(content, name)  # `verify` looks at structure only: a file that is cut short shows here
    except DataError as error:
        return one_line(error)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"{name}: more pixels than the limit of {PIXELS // 1_000_000} million."
    except Exception:  # PIL's plugins raise all sorts of things on damaged files
        return f"{name}: not an image that can be read ({', '.join(FORMATS)})."
    return ""


def square(content: bytes, side: int) -> Image.Image:
    """The middle of an accepted image, upright, on white where it is transparent."""
    from cillab.streams.pictures import decode  # noqa: PLC0415 - torch comes with it: not for every page

    return ImageOps.fit(decode(content, "this image", 2 * side), (side, side))


def images(files: Sequence[Sent]) -> tuple[list[tuple[str, bytes]], list[str]]:
    """The files that are images, and a line for each that is not.

    Raises:
        ReadOnlyError: not on this server. InvalidRequestError: too many.
    """
    safety.must_be_writable()
    if len(files) > MOST_IMAGES:
        raise InvalidRequestError(f"{len(files)} files, the limit is {MOST_IMAGES}.")
    taken, refused = [], []
    for file in files:
        if file.size > IMAGE_BYTES:
            refused.append(f"{file.name}: {file.size / 2**20:.0f} MB, the limit is {IMAGE_BYTES // 2**20} MB.")
            continue
        content = file.getvalue()
        if why := refuse_image(file.name, content):
            refused.append(why)
        else:
            taken.append((file.name, content))
    return taken, refused


def unpack_run(content: bytes, name: str) -> Path:
    """Unpack a zip of one run folder to `<runs>/name`; it appears whole or not at all.

    Only the files of a run are taken: no link, no absolute path, no way up, no other name. What its status says about
    processes is forgotten, because they are not those of this machine.

    Raises:
        ReadOnlyError: not on this server. InvalidRequestError: the archive or the name is not what it should be.
        RunError: the name is taken, or what was unpacked is not a run.
    """
    safety.must_be_writable()
    target = runs_folder() / valid_name(name)
    if target.exists():
        raise RunError(f"{name!r} is taken: give it another name.")
    if len(content) > ZIP_BYTES:
        raise InvalidRequestError(f"{len(content) / 2**20:.0f} MB, the limit is {ZIP_BYTES // 2**20} MB.")
    runs_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=runs_folder()) as aside:
        place = Path(aside) / "run"
        place.mkdir()
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member, parts in _members(archive):
                    _extract(archive, member, place.joinpath(*parts))
        except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise InvalidRequestError(f"This is not a zip that can be read ({error}).") from error
        _must_be_run(place)
        try:
            place.rename(target)
        except OSError as error:
            raise RunError(f"{name!r} is taken: give it another name.") from error
    return target


def _members(archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """The files of the run with their paths inside it, everything checked before the first byte is written."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if not infos or len(infos) > MEMBERS:
        raise InvalidRequestError(f"{len(infos)} files; a run folder has 1 to {MEMBERS}.")
    if sum(info.file_size for info in infos) > UNPACKED_BYTES:
        raise InvalidRequestError(f"More than {UNPACKED_BYTES // 2**20} MB when unpacked.")
    if any(info.file_size > _RATIO * max(info.compress_size, 1) + 65536 for info in infos):
        raise InvalidRequestError("A file unpacks to far more than it holds: this looks like a decompression bomb.")
    top = _top([info.filename for info in infos])
    found = []
    for info in infos:
        parts = _safe(info)[len(top) :]
        if not _belongs(parts):
            continue  # caches, thumbs of a file manager: left behind
        found.append((info, parts))
    if not any(parts == ("run.json",) for _, parts in found):
        raise InvalidRequestError("There is no run.json in it, so it is not a run folder.")
    return found


def _safe(info: zipfile.ZipInfo) -> tuple[str, ...]:
    path = PurePosixPath(info.filename)
    mode = info.external_attr >> 16
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in info.filename
        or ":" in info.filename
        or "\x00" in info.filename
    ):
        raise InvalidRequestError(f"{info.filename[:80]!r} leads out of the folder.")
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise InvalidRequestError(f"{info.filename[:80]!r} is a link or a device, not a file.")
    if info.flag_bits & 1:
        raise InvalidRequestError("It is encrypted.")
    return path.parts


def _top(names: list[str]) -> tuple[str, ...]:
    """The folders around run.json: a zip may hold the run itself or one folder with it."""
    holders = [PurePosixPath(name).parent.parts for name in names if PurePosixPath(name).name == "run.json"]
    if len(holders) != 1 or len(holders[0]) > 2:
        raise InvalidRequestError(
            f"{len(holders)} run.json in it; a zip of one run folder has exactly one, near the top."
        )
    return holders[0]


def _belongs(parts: tuple[str, ...]) -> bool:
    if len(parts) == 1:
        return parts[0] in _FILES
    if len(parts) != 2 or parts[0] not in _FOLDERS or not parts[1].endswith(_FOLDERS[parts[0]]):
        return False
    stem = PurePosixPath(parts[1]).stem
    return (
        parts[1] in ("probe.json", "sprites.webp", "sprites.png")
        if parts[0] == "probe"
        else parse_step(stem) is not None
    )


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Copy at most what the directory of the archive promised."""
    target.parent.mkdir(exist_ok=True)
    with archive.open(member) as source, target.open("xb") as file:
        left = member.file_size
        while piece := source.read(min(1 << 20, left + 1)):
            left -= len(piece)
            if left < 0:
                raise InvalidRequestError(f"{member.filename[:80]!r} holds more than it says.")
            file.write(piece)


def _must_be_run(place: Path) -> None:
    """Open everything that pages will open; then forget the process that wrote it.

    Raises:
        CillabError: what is damaged.
    """
    try:
        run = Run(place)
        check(run)
        _draw_all(run)
    except RunError as error:
        raise RunError(str(error).replace(f"{place}/", "")) from error
    done = run.result is not None
    for folder in ("steps", "checkpoints", "control"):
        (place / folder).mkdir(exist_ok=True)
    try:
        status = json.loads((place / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        status = {}
    status = status if isinstance(status, dict) else {}
    keep = {
        key: status[key]
        for key in ("task", "tasks", "started", "heartbeat")
        if isinstance(status.get(key), int | float)
    }
    write_json(place / "status.json", {**keep, "state": "finished" if done else "cancelled", "pid": None, "host": None})


def _draw_all(run: Run) -> None:
    """Draw every figure once: whatever a stranger's numbers do to one, they do it here and not on a page."""
    for one in figures.figures_of():
        with suppress(UnknownNameError):  # an array that this run does not have
            try:
                if not one.per_image:
                    one.draw(run)
            except CillabError:
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {one_line(error)[:200]}"
                raise RunError(f"The figure {one.title!r} of this run cannot be drawn: {why}") from error


def free_name(given: str) -> str:
    """A folder name made of a file's name that is not taken."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in Path(given).stem).strip("-.")[
        :60
    ]
    base, number = plain or "sent", 1
    name = base
    while (runs_folder() / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name
