"""Data sets by name: what is known of each, as data, and where one lies on this machine. Reads no image."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from cillab.core.errors import HubError, InvalidRequestError, unknown_name
from cillab.core.places import cache_dir, data_dir

FILE = Path(__file__).with_suffix(".yaml")
_DEPTH = 2  # folders that an archive, or torchvision, puts around the files
_MARKS = {"train": ("train", "training"), "parquet": ("train*.parquet", "data/train*.parquet")}

Naming = Literal["as-is", "plain", "numbered", "wordnet", "lettered", "core50"]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Archive(_Facts):
    """A file that can be downloaded without asking anybody."""

    url: str
    md5: str = ""
    """As the authors or torchvision publish it; empty = none published."""
    into: str = ""
    """Folder in which it is unpacked."""
    inner: tuple[str, ...] = ()
    """Archives that come out of it."""
    packed: bool = False
    """Read as it is."""

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


class ByHand(_Facts):
    """A file behind a form, a password or a drive."""

    file: str
    source: str = Field(alias="from")
    md5: str = ""


class Hub(_Facts):
    """A data set repository of the Hugging Face hub that holds parquet files."""

    repo: str


class Layout(_Facts):
    """Files that mean one thing; `kind` names the reader (`cillab.streams.lists`)."""

    kind: str
    says: str
    """The same for people."""
    needs: tuple[str, ...] = ()
    """Paths or patterns below the folder, all of which must be there."""
    at: str = ""
    """Where the images are below it."""
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    listing: str = ""
    flags: str = ""
    classes: str = ""
    """File with the classes in their order; without one, by id where lines hold one, else by alphabet."""
    line: str = ""
    """Regular expression of a line, with groups `label` and those that `image` wants."""
    image: str = ""
    """Path of an image, made of the groups."""


class DataSet(_Facts):
    """One data set, as `named.yaml` describes it."""

    name: str
    title: str
    classes: int
    other_classes: tuple[int, ...] = ()
    """Class counts of well-known parts, which are read as well."""
    counts: Mapping[str, tuple[int, int]]
    """Training and test images of every division in use."""
    whole: int = 0
    """Images, if it comes in one piece."""
    licence: str
    homepage: str
    size: str = "not stated"
    note: str = ""
    may_train: bool = True
    archives: tuple[Archive, ...] = ()
    by_hand: tuple[ByHand, ...] = ()
    hub: Hub | None = None
    layouts: tuple[Layout, ...] = ()
    names: Naming = "as-is"
    renamed: Mapping[str, str] = Field(default_factory=dict)
    leave_out: tuple[str, ...] = ()

    @property
    def small(self) -> bool:
        """Does it download itself when it is opened?"""
        return any(archive.packed for archive in self.archives)

    @property
    def line(self) -> str:
        """For a list: what it is, how large, and what it may be used for."""
        first, (train, test) = next(iter(self.counts.items()))
        split = f"{train:,} + {test:,} images ({first})" if train else f"{test:,} images"
        allowed = "" if self.may_train else " Evaluation only."
        return f"{self.title}: {self.classes} classes, {split}.{allowed} Licence: {self.licence}"

    @property
    def every_layout(self) -> tuple[Layout, ...]:
        """Its own layouts, then those that are understood for every set."""
        folders = Layout(kind="classes", says="CLASS/IMAGE, a fifth is held out by name")
        return (*self.layouts, *COMMON, folders) if self.whole or not self.may_train else (*self.layouts, *COMMON)


COMMON = (
    Layout(kind="parquet", says="train-*.parquet and test-*.parquet of the hub, here or in data/"),
    Layout(kind="classes", needs=("[Tt]rain*/*/",), says="train/CLASS/IMAGE and test/CLASS/IMAGE"),
)
"""Layouts of any data set."""


class Place(NamedTuple):
    """Where a set lies, and how."""

    folder: Path
    layout: Layout


@cache
def named_sets() -> Mapping[str, DataSet]:
    """Every set by name."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if PyYAML has libyaml
    given: dict[str, dict[str, Any]] = yaml.load(FILE.read_text(encoding="utf-8"), loader)
    return {name: DataSet(name=name, **facts) for name, facts in sorted(given.items())}


def named_set(name: str) -> DataSet:
    """The set called `name`.

    Raises:
        UnknownNameError: no such set, with the nearest one.
    """
    if name not in named_sets():
        raise unknown_name("named data set", name, named_sets())
    return named_sets()[name]


def homes(entry: DataSet, cache_folder: Path | None = None) -> tuple[Path, ...]:
    """Folders in which the set is looked for, in this order: below `CILLAB_DATA`, below the cache."""
    given, kept = data_dir(), cache_folder or cache_dir()
    return (*((given / entry.name,) if given else ()), kept / "data" / entry.name)


def find(entry: DataSet, folders: Sequence[Path]) -> Place | None:
    """The first layout of the set that lies in one of `folders`, or in up to two folders around it there."""
    for home in folders:
        inside = list(_below(home)) if home.is_dir() else []
        for layout in entry.every_layout:
            for folder in inside if layout.needs or layout.kind == "parquet" else inside[:1]:
                if _is_there(layout, folder):
                    return Place(folder, layout)
    return None


def instructions(entry: DataSet, folders: Sequence[Path]) -> str:
    """One paragraph: which files go where, and where they come from."""
    ways = [f"{number}) {layout.says}" for number, layout in enumerate(entry.every_layout, start=1)]
    hub = [f"huggingface.co/datasets/{entry.hub.repo}"] if entry.hub else []
    hands = [f"{one.file} ({one.source})" for one in entry.by_hand]
    sources = "; ".join([*(archive.url for archive in entry.archives), *hub, *hands])
    unpack = f"Archives that lie there are unpacked by `cillab data fetch {entry.name}`."
    return f"Put it into {folders[0]} in one of these layouts: {'; '.join(ways)}. {unpack} It comes from: {sources}."


def not_here(entry: DataSet, folders: Sequence[Path]) -> HubError:
    """What to say of a set that lies nowhere."""
    advice = f"`cillab data fetch {entry.name}` downloads it ({entry.size}). " if entry.archives or entry.hub else ""
    return HubError(f"{entry.name} is not on this machine. {advice}{instructions(entry, folders)}")


def must_be_here(data: str) -> None:
    """Refuse a request for a named set that lies nowhere, however it is wrapped, unless it downloads itself.

    Raises:
        HubError: says which files go where.
    """
    for _, entry in _named_in(data):
        if not entry.small and find(entry, homes(entry)) is None:
            raise not_here(entry, homes(entry))


def must_allow_training(data: str) -> None:
    """Refuse a request to train on a set whose licence forbids it, however it is wrapped.

    Raises:
        InvalidRequestError: one line.
    """
    for part, entry in _named_in(data):
        if not entry.may_train:
            raise InvalidRequestError(
                f"data = {part!r} is for evaluation only: its licence {entry.licence}. "
                "Train on another set; its test images can be asked in Python (docs/data.md)."
            )


def _named_in(data: str) -> Iterator[tuple[str, DataSet]]:
    for part in data.split(" + "):
        if entry := named_sets().get(part.rpartition("held-out:")[2]):
            yield part, entry


def _below(home: Path) -> Iterator[Path]:
    """`home` and what is around the files in it: breadth first, so that the outermost match wins."""
    layer = [home]
    for depth in range(_DEPTH + 1):
        yield from layer
        if depth < _DEPTH:
            layer = [inner for folder in layer for inner in sorted(folder.iterdir()) if _is_folder(inner)]


def _is_folder(path: Path) -> bool:
    return not path.name.startswith((".", "__")) and path.is_dir()


def _is_there(layout: Layout, folder: Path) -> bool:
    if layout.kind == "parquet":
        return any(any(folder.glob(pattern)) for pattern in _MARKS["parquet"])
    if not layout.needs:
        return any(map(_is_folder, folder.iterdir()))
    return all(any(folder.glob(need)) for need in layout.needs)
