"""`parquet:DIR`: tables of encoded images in the layout of Hugging Face data sets."""

import json
import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from jaxtyping import Int64

from cillab.core.errors import DataError, one_line, shown
from cillab.core.memory import gigabytes, machine_memory
from cillab.core.registry import sources
from cillab.streams.columns import Columns, columns_of, must_have
from cillab.streams.labels import Classes, classes_of, is_hidden
from cillab.streams.pictures import EncodedSource
from cillab.streams.sources import Divide, Options, Shelf, Source, Split, by_seed

log = logging.getLogger(__name__)

HELD_OUT = ("test", "validation", "val", "valid")  # in this order; the first whose labels are known

_SHARE = 4  # a quarter of the machine's memory may hold encoded images

T = TypeVar("T")


@final
class ParquetShelf(Shelf):
    """Rows of parquet files. Row groups are read when asked for, images only, and kept while they fit `room` bytes."""

    def __init__(self, split: Split, files: Sequence[Path], column: str, label_column: str, home: Path) -> None:
        from pyarrow import parquet  # noqa: PLC0415  (a heavy import that most sources do without)

        self._split, self._column, self._home = split, column, home
        self._groups: dict[int, Any] = {}  # least recently used first
        self._dropped, self._told = set[int](), False
        self.room = (machine_memory() or 2**32) // _SHARE
        self._pieces, self._starts, labels = list[tuple[Any, Path, int, int]](), [0], list[Any]()
        for path in files:
            file = parquet.ParquetFile(path)
            for wanted in (column, label_column):
                must_have(file.schema_arrow.names, wanted, "images" if wanted == column else "labels", str(path))
            labels += file.read(columns=[label_column]).column(0).to_pylist()
            first = self._starts[-1]
            for group in range(file.num_row_groups):
                self._pieces.append((file, path, group, first))
                self._starts.append(self._starts[-1] + file.metadata.row_group(group).num_rows)
        self.raw_labels = labels
        self.labels = np.zeros(len(labels), dtype=np.int64)  # set by `label`, once the class names are known

    def label(self, classes: Classes) -> None:
        """Turn stored labels (ids, or names) into class ids."""
        self.labels = classes.number(self.raw_labels, self.where)

    def read(self, row: int) -> bytes:
        """The bytes of one cell."""
        piece = bisect_right(self._starts, row) - 1
        self._groups[piece] = self._groups.pop(piece, None) or self._load(piece)  # now the last one to go
        return cell_bytes(self._groups[piece][row - self._starts[piece]].as_py(), self.where(row), (self._home,))

    def _load(self, piece: int) -> Any:
        file, path, group, _ = self._pieces[piece]
        try:
            column = file.read_row_group(group, columns=[self._column]).column(0)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: row group {group} cannot be read ({one_line(error)}).") from error
        self._say_if_again(piece)
        while self._groups and column.nbytes + sum(kept.nbytes for kept in self._groups.values()) > self.room:
            self._dropped.add(oldest := next(iter(self._groups)))
            self._groups.pop(oldest)
        return column

    def _say_if_again(self, piece: int) -> None:
        """Once: a shuffled pass over more images than there is room for reads a row group for every image."""
        if piece in self._dropped and not self._told:
            self._told = True
            log.warning(
                "%s: images are read again and again, for more than %s of them do not stay in memory. A folder of "
                "images has no such limit.", self._home, gigabytes(self.room),
            )  # fmt: skip

    def where(self, row: int) -> str:
        """File and row."""
        _, path, _, first = self._pieces[bisect_right(self._starts, row) - 1]
        return f"{path}, row {row - first}"

    def id(self, row: int) -> str:
        """Split and row, counted over all files of the split."""
        return f"{self._split}/{row}"


@final
class Rows(Shelf):
    """Some rows of another shelf, for data that come in one piece."""

    def __init__(self, shelf: Shelf, rows: Int64[np.ndarray, " image"]) -> None:
        self._shelf, self._rows = shelf, rows.tolist()
        self.labels = shelf.labels[rows]

    def read(self, row: int) -> bytes:
        """The bytes that the other shelf has."""
        return self._shelf.read(self._rows[row])

    def where(self, row: int) -> str:
        """Where the other shelf has it."""
        return self._shelf.where(self._rows[row])

    def id(self, row: int) -> str:
        """The name that the other shelf has for it."""
        return self._shelf.id(self._rows[row])


def cell_bytes(cell: Any, where: str, homes: Sequence[Path]) -> bytes:
    """Encoded bytes of a cell: `{bytes, path}` as Hugging Face stores images, plain bytes (also as a list), or a path.

    A path is relative to the first of `homes`, and must end below one of them: a table that somebody sent must not
    be able to show another file of this machine.

    Raises:
        DataError: an empty cell, or a path to something that is not there, no file, or elsewhere.
    """
    if isinstance(cell, Mapping):
        inner = cell.get("bytes")
        cell = inner if inner is not None else cell.get("path")
    if isinstance(cell, str) and cell:
        return _file_bytes(cell, where, homes)
    if isinstance(cell, list):
        try:
            cell = bytes(cell)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where} holds a list that is not the bytes of an image file ({error}).") from error
    if not isinstance(cell, bytes) or not cell:
        raise DataError(f"{where} holds no image.")
    return cell


def _file_bytes(given: str, where: str, homes: Sequence[Path]) -> bytes:
    try:
        path = (homes[0] / given).resolve()
        if not any(path.is_relative_to(home.resolve()) for home in homes):
            raise DataError(f"{where} points to {shown(given)}, which is not below {shown(str(homes[0]))}.")
        if path.exists() and not path.is_file():  # a device has no end, a pipe waits for ever
            raise DataError(f"{where} points to {shown(given)}, which is no ordinary file.")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where} points to a file that cannot be read ({one_line(error)}).") from error


def build(
    name: str, classes: Classes, columns: Columns, train: Shelf, test: tuple[str, Shelf] | None, divide: Divide
) -> EncodedSource:
    """A source from its shelves; without a test shelf and its name, from what `divide` makes of the one there is."""
    if test is not None:
        splits: dict[Split, Shelf] = {"train": train, "test": test[1]}
    else:
        divided = divide(train.labels, classes.names, list(map(train.id, range(len(train.labels)))))
        splits = {split: Rows(train, rows) for split, rows in divided.items()}
    source = EncodedSource(name, classes.names, splits)
    held = "a fifth of each class, drawn by the seed" if test is None else f"split {test[0]!r}"
    count = "1 class" if len(classes.names) == 1 else f"{len(classes.names)} classes"
    also = f" (as {', '.join(shown(one, 40) for one in columns.also)} says too)" if columns.also else ""
    source.notes = (
        f"{count} by column {shown(columns.label, 40)}{also}, images in {shown(columns.image, 40)}; "
        f"{len(splits['train'].labels)} training images, {len(splits['test'].labels)} test images ({held}).",
        *classes.notes,
    )
    for note in classes.notes:
        log.warning("%s: %s", name, note)
    return source


@sources.register("parquet:DIR")
def open_parquet(where: str, options: Options) -> Source:
    """DIR/train.parquet and DIR/test.parquet, or shards such as train-00000-of-00002.parquet."""
    return read_tables(where, by_seed(options.seed), (options.image_column, options.label_column))


def read_tables(where: str, divide: Divide, given: tuple[str | None, str | None] = (None, None)) -> EncodedSource:
    """The tables below `where`; `divide` holds test images out where there is no split to test on.

    `given` are the columns of images and labels, where the user names them.

    Raises:
        DataError: no usable tables, as `parquet:{where}`.
    """
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    root, name = Path(where).expanduser(), f"parquet:{where}"
    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {shown(str(root), 200)}.")
    train = _shards(root, "train")
    if not train:
        raise DataError(f"{name}: no train.parquet (or train-*.parquet) in {shown(str(root), 200)}.")
    try:
        schema = parquet.read_schema(train[0])
        features = _features(schema)
        columns = columns_of(
            schema.names,
            [column for column in schema.names if features.get(column) == "Image"],
            [column for column in schema.names if features.get(column) == "ClassLabel"],
            lambda column: [
                value for path in train for value in parquet.read_table(path, columns=[column]).column(0).to_pylist()
            ],
            given, name,
        )  # fmt: skip
        image, label = columns.image, columns.label
        shelf = ParquetShelf("train", train, image, label, train[0].parent)
        held = held_out(
            {
                split: partial(ParquetShelf, "test", files, image, label, files[0].parent)
                for split in HELD_OUT
                if (files := _shards(root, split))
            },
            lambda test: test.raw_labels,
            name,
        )
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name} cannot be read ({one_line(error)}).") from error
    classes = classes_of(_declared(schema, label), shelf.raw_labels, name)
    for each in (shelf, *(held or ())[1:]):
        each.label(classes)
    return build(name, classes, columns, shelf, held, divide)


def held_out(
    splits: Mapping[str, Callable[[], T]], labels: Callable[[T], Sequence[Any]], owner: str
) -> tuple[str, T] | None:
    """The first split to test on whose labels are known, and its name; None if there is no split to test on.

    Raises:
        DataError: there are some, and none has labels.
    """
    why = list[str]()
    for split, open_split in splits.items():
        try:
            found = open_split()
        except DataError as error:
            why.append(one_line(error).rstrip("."))
            continue
        if not is_hidden(labels(found)):
            return split, found
        why.append(f"the labels of its split {split!r} are hidden (-1 or empty)")
    if not why:
        return None
    raise DataError(
        f"{owner} has nothing to test on: {'; '.join(why)}. Add a labelled split 'validation', "
        "or take the unlabelled one away: a fifth of the training images is held out then."
    )


def _shards(root: Path, split: str) -> list[Path]:
    """`SPLIT.parquet`, or `SPLIT-00000-of-00002.parquet` and so on, here or in `data/` as on the hub.

    Raises:
        DataError: a shard is missing, or files are there that would count the same images twice.
    """
    named = re.compile(rf"{split}(?:-(\d+)-of-(\d+).*)?\.parquet", re.IGNORECASE)
    for folder in (root, root / "data"):
        found = {
            path: match for path in sorted(folder.glob("*")) if (match := named.fullmatch(path.name)) and path.is_file()
        }
        if found:
            _complete(found)
            return list(found)
    return []


def _complete(shards: Mapping[Path, re.Match[str]]) -> None:
    (first, match), files = next(iter(shards.items())), list(shards)
    divided = [(int(match[1]), int(match[2])) for match in shards.values() if match[1]]
    places, totals = [place for place, _ in divided], {total for _, total in divided}
    if len(files) > 1 and (len(divided) < len(files) or len(totals) > 1 or len(set(places)) < len(places)):
        raise DataError(f"{first} and {files[1].name} are two copies or two divisions of one split: keep one.")
    if not divided:
        return
    total = totals.pop()
    missing = [place for place in range(min(total, len(places) + 1)) if place not in places]
    if missing or len(places) != total:
        lost = f"{missing[0]:0{len(match[1])}}-of-{match[2]}" if missing else f"of {match[2]}"
        split = first.name.partition("-")[0]
        raise DataError(
            f"{first.parent}: {split}-{lost}.parquet is missing ({len(places)} of {total} shards are there)."
        )


def _features(schema: Any) -> dict[str, str]:
    """Types of columns as the schema's Hugging Face metadata declare them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): str(one.get("_type")) for name, one in features.items() if isinstance(one, dict)}
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):  # metadata of some other tool
        return {}


def _declared(schema: Any, label: str) -> Sequence[str] | None:
    """Class names in the schema's Hugging Face metadata, if there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label].get("names")
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):  # metadata of some other tool
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
