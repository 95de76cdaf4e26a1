"""`hf:NAME`: an image data set of the Hugging Face hub, through `datasets.load_dataset`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from cillab.core.errors import DataError, HubError, one_line
from cillab.core.registry import sources
from cillab.streams.pictures import Shelf
from cillab.streams.sources import Options, Source, Split
from cillab.streams.table import IMAGE_COLUMNS, LABEL_COLUMNS, build, cell_bytes, named_classes, pick


@final
class HubShelf(Shelf):
    """Rows of a loaded data set, memory-mapped by `datasets`; cells are not decoded."""

    def __init__(self, split: Split, name: str, images: Any, labels: Sequence[Any], class_names: Sequence[str]) -> None:
        self._split, self._name, self._images = split, name, images
        ids = {text: class_id for class_id, text in enumerate(class_names)}
        self.labels = np.array([ids.get(raw, -1) if isinstance(raw, str) else int(raw) for raw in labels], np.int64)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(class_names)))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{self.where(row)}: label {labels[row]!r} is none of the {len(class_names)} classes.")

    def read(self, row: int) -> bytes:
        """The bytes of one cell, or of the file it points to."""
        return cell_bytes(self._images[row].as_py(), self.where(row))

    def where(self, row: int) -> str:
        """Name, split and row."""
        return f"{self._name}, {self._split} row {row}"

    def id(self, row: int) -> str:
        """Split and row."""
        return f"{self._split}/{row}"


@sources.register("hf:NAME")
def open_hub(where: str, options: Options) -> Source:
    """An image data set of the Hugging Face hub, or a local folder in the hub's own layout."""
    import datasets  # noqa: PLC0415  (seconds to import)

    name = f"hf:{where}"
    local = Path(where).expanduser()
    try:
        found = datasets.load_dataset(str(local) if local.is_dir() else where)
    except Exception as error:  # connection, name, configuration, damaged cache: each library has its own classes
        raise HubError(
            f"{name} could not be loaded ({_reason(error)}). Without a hub, give local files: folder:DIR, "
            "parquet:DIR with train.parquet and test.parquet, or hf:DIR with a copy of the repository."
        ) from error
    if "train" not in found:
        raise DataError(f"{name} has no split 'train'. Its splits: {', '.join(map(str, found))}.")
    features = found["train"].features
    columns = list(features)
    image = pick([c for c in columns if isinstance(features[c], datasets.Image)], IMAGE_COLUMNS, "images", name)
    label = pick(columns, LABEL_COLUMNS, "labels", name)
    held = next((split for split in ("test", "validation") if split in found), None)
    raw = {split: list(found[split][label]) for split in ("train", held) if split}
    names = named_classes(getattr(features[label], "names", None), raw["train"], name)
    shelves = {
        split: HubShelf("train" if split == "train" else "test", name, found[split].data.column(image), labels, names)
        for split, labels in raw.items()
    }
    return build(name, names, shelves["train"], shelves[held] if held else None, options.seed)


def _reason(error: Exception) -> str:
    """The first sentence: these libraries write paragraphs."""
    return one_line(error).split(". ")[0].rstrip(".")[:200] or type(error).__name__
