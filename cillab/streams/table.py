"""`parquet:DIR`: tables of encoded images in the layout of Hugging Face data sets."""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from cillab.core.errors import DataError, one_line
from cillab.core.registry import sources
from cillab.streams.pictures import EncodedSource, Shelf
from cillab.streams.sources import Options, Source, Split, hold_out

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")

_KEPT_BYTES = 2**30  # encoded: CIFAR-100 is a tenth of that


@final
class ParquetShelf(Shelf):
    """Rows of parquet files. Row groups are read when asked for, images only, and kept while they fit `_KEPT_BYTES`."""

    def __init__(self, split: Split, files: Sequence[Path], column: str, label_column: str) -> None:
        from pyarrow import parquet  # noqa: PLC0415  (a heavy import that most sources do without)

        self._split, self._column = split, column
        self._groups: dict[int, Any] = {}  # least recently used first
        self._pieces, self._starts, labels = list[tuple[Any, Path, int, int]](), [0], list[Any]()
        for path in files:
            file = parquet.ParquetFile(path)
            labels += file.read(columns=[label_column]).column(0).to_pylist()
            first = self._starts[-1]
            for group in range(file.num_row_groups):
                self._pieces.append((file, path, group, first))
                self._starts.append(self._starts[-1] + file.metadata.row_group(group).num_rows)
        self.raw_labels = labels
        self.labels = np.zeros(len(labels), dtype=np.int64)  # set by `label`, once the class names are known

    def label(self, class_names: Sequence[str]) -> None:
        """Turn stored labels (ids, or names) into class ids."""
        ids = {name: class_id for class_id, name in enumerate(class_names)}
        for row, raw in enumerate(self.raw_labels):
            class_id = ids.get(raw, -1) if isinstance(raw, str) else (-1 if raw is None else int(raw))
            if not 0 <= class_id < len(class_names):
                raise DataError(f"{self.where(row)}: label {raw!r} is none of the {len(class_names)} classes.")
            self.labels[row] = class_id

    def read(self, row: int) -> bytes:
        """The bytes of one cell."""
        piece = bisect_right(self._starts, row) - 1
        self._groups[piece] = self._groups.pop(piece, None) or self._load(piece)  # now the last one to go
        return cell_bytes(self._groups[piece][row - self._starts[piece]].as_py(), self.where(row))

    def _load(self, piece: int) -> Any:
        file, path, group, _ = self._pieces[piece]
        try:
            column = file.read_row_group(group, columns=[self._column]).column(0)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: row group {group} cannot be read ({one_line(error)}).") from error
        while self._groups and column.nbytes + sum(kept.nbytes for kept in self._groups.values()) > _KEPT_BYTES:
            self._groups.pop(next(iter(self._groups)))
        return column

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


def cell_bytes(cell: Any, where: str) -> bytes:
    """Encoded bytes of a cell: `{bytes, path}` as Hugging Face stores images, or plain bytes.

    Raises:
        DataError: an empty cell, or a path to a file that is not there.
    """
    if isinstance(cell, Mapping):
        if cell.get("bytes") is None and cell.get("path"):
            try:
                return Path(cell["path"]).read_bytes()
            except OSError as error:
                raise DataError(f"{where} points to a file that cannot be read ({one_line(error)}).") from error
        cell = cell.get("bytes")
    if not isinstance(cell, bytes) or not cell:
        raise DataError(f"{where} holds no image.")
    return cell


def pick(columns: Sequence[str], wanted: Sequence[str], what: str, owner: str) -> str:
    """The first of the usual names that is there.

    Raises:
        DataError: none is; says which columns there are.
    """
    for name in wanted:
        if name in columns:
            return name
    raise DataError(f"{owner} has no column of {what} ({' or '.join(wanted)}). Its columns: {', '.join(columns)}.")


def named_classes(declared: Sequence[str] | None, raw_labels: Sequence[Any], owner: str) -> tuple[str, ...]:
    """Class names as the schema declares them; else the label texts in alphabetical order, or the ids as text."""
    if declared:
        return tuple(declared)
    known = {label for label in raw_labels if label is not None}
    if not known:
        raise DataError(f"{owner} has no labelled image.")
    if all(isinstance(label, str) for label in known):
        return tuple(sorted(known))
    if all(isinstance(label, int) for label in known):
        return tuple(str(class_id) for class_id in range(max(known) + 1))
    raise DataError(f"{owner}: labels must be class ids or class names, not {type(next(iter(known))).__name__}.")


def build(name: str, class_names: tuple[str, ...], train: Shelf, test: Shelf | None, seed: int) -> Source:
    """A source from its shelves; without a test shelf, from 80/20 of the one there is."""
    if test is not None:
        return EncodedSource(name, class_names, {"train": train, "test": test})
    splits: dict[Split, Shelf] = {
        split: Rows(train, rows) for split, rows in hold_out(train.labels, class_names, seed).items()
    }
    return EncodedSource(name, class_names, splits)


@sources.register("parquet:DIR")
def open_parquet(where: str, options: Options) -> Source:
    """DIR/train.parquet and DIR/test.parquet, or shards such as train-00000-of-00002.parquet."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    root, name = Path(where).expanduser(), f"parquet:{where}"
    if not root.is_dir():
        raise DataError(f"{name}: there is no folder {str(root)!r}.")
    train, test = _shards(root, ("train",)), _shards(root, ("test", "validation", "val"))
    if not train:
        raise DataError(f"{name}: no train.parquet (or train-*.parquet) in {str(root)!r}.")
    try:
        schema = parquet.read_schema(train[0])
        image = pick(schema.names, IMAGE_COLUMNS, "images", name)
        label = pick(schema.names, LABEL_COLUMNS, "labels", name)
        shelf = ParquetShelf("train", train, image, label)
        held = ParquetShelf("test", test, image, label) if test else None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name} cannot be read ({one_line(error)}).") from error
    names = named_classes(_declared(schema, label), shelf.raw_labels, name)
    for each in (shelf, held):
        if each is not None:
            each.label(names)
    return build(name, names, shelf, held, options.seed)


def _shards(root: Path, splits: tuple[str, ...]) -> list[Path]:
    """`SPLIT.parquet`, or `SPLIT-00000-of-00002.parquet` and so on, here or in `data/` as on the hub."""
    for folder in (root, root / "data"):
        for split in splits:
            named = re.compile(rf"{split}(-\d+-of-\d+.*)?\.parquet")
            found = sorted(path for path in folder.glob("*.parquet") if named.fullmatch(path.name))
            if found:
                return found
    return []


def _declared(schema: Any, label: str) -> Sequence[str] | None:
    """Class names in the schema's Hugging Face metadata, if there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features[label].get("names")
    except (KeyError, ValueError, AttributeError):
        return None
