"""`hf:NAME`: an image data set of the Hugging Face hub, through `datasets.load_dataset`."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from cillab.core.errors import DataError, HubError, one_line
from cillab.core.registry import sources
from cillab.streams.columns import columns_of, must_have
from cillab.streams.labels import Classes, classes_of
from cillab.streams.sources import Options, Shelf, Source, Split, by_seed
from cillab.streams.table import HELD_OUT, build, cell_bytes, held_out


@final
class HubShelf(Shelf):
    """Rows of a loaded data set, memory-mapped by `datasets`; cells are not decoded."""

    def __init__(self, split: Split, name: str, images: Any, labels: Sequence[Any], homes: Sequence[Path]) -> None:
        self._split, self._name, self._images, self._homes = split, name, images, tuple(homes)
        self.raw_labels = labels
        self.labels = np.zeros(len(labels), dtype=np.int64)  # set by `label`, once the class names are known

    def label(self, classes: Classes) -> None:
        """Turn stored labels (ids, or names) into class ids."""
        self.labels = classes.number(self.raw_labels, self.where)

    def read(self, row: int) -> bytes:
        """The bytes of one cell, or of the file it points to."""
        return cell_bytes(self._images[row].as_py(), self.where(row), self._homes)

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
    from datasets import config  # noqa: PLC0415
    from huggingface_hub import constants  # noqa: PLC0415

    name = f"hf:{where}"
    local = Path(where).expanduser()
    alone = not local.is_dir() and not constants.HF_HUB_OFFLINE and not is_reachable(constants.ENDPOINT)
    try:
        with _kept_only(config, constants) if alone else nullcontext():
            found = datasets.load_dataset(str(local) if local.is_dir() else where)
    except Exception as error:  # connection, name, configuration, damaged cache: each library has its own classes
        why = f"no connection to {constants.ENDPOINT}" if alone else _reason(error)
        raise HubError(
            f"{name} could not be loaded ({why}). Without a hub, give local files: folder:DIR, "
            "parquet:DIR with train.parquet and test.parquet, or hf:DIR with a copy of the repository."
        ) from error
    if "train" not in found:
        raise DataError(f"{name} has no split 'train'. Its splits: {', '.join(map(str, found))}.")
    features = found["train"].features
    columns = list(features)
    typed = [column for column in columns if isinstance(features[column], datasets.Image)]
    named = [column for column in columns if isinstance(features[column], datasets.ClassLabel)]
    given = (options.image_column, options.label_column)
    chosen = columns_of(columns, typed, named, lambda column: list(found["train"][column]), given, name)
    image, label = chosen.image, chosen.label
    cache = (Path(constants.HF_HUB_CACHE), Path(config.HF_DATASETS_CACHE))
    homes = (local, *cache) if local.is_dir() else cache

    def shelf_of(split: str) -> HubShelf:
        for column in (image, label):
            what = "images" if column == image else "labels"
            must_have(list(found[split].features), column, what, f"{name}, {split}")
        side: Split = "train" if split == "train" else "test"
        return HubShelf(side, name, found[split].data.column(image), list(found[split][label]), homes)

    train = shelf_of("train")
    held = held_out(
        {split: partial(shelf_of, split) for split in HELD_OUT if split in found}, lambda test: test.raw_labels, name
    )
    classes = classes_of(getattr(features[label], "names", None), train.raw_labels, name)
    for shelf in (train, *(held or ())[1:]):
        shelf.label(classes)
    return build(name, classes, chosen, train, held, by_seed(options.seed))


def is_reachable(address: str, patience_s: float = 1.0) -> bool:
    """Does the server at `address` take a connection? Taken for granted where a proxy stands in between."""
    if getproxies():
        return True
    parts, answered = urlsplit(address), threading.Event()

    def ask() -> None:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        with suppress(OSError), socket.create_connection((parts.hostname or "", port), timeout=patience_s):
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)  # a name server that does not answer takes longer than a second
    asking.start()
    asking.join(patience_s)
    return answered.is_set()


@contextmanager
def _kept_only(*modules: Any) -> Iterator[None]:
    """Inside, the hub's libraries look at what is kept on this machine: without a network they retry for 24 s."""
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _reason(error: Exception) -> str:
    """The first sentence: these libraries write paragraphs."""
    return one_line(error).split(". ")[0].rstrip(".")[:200] or type(error).__name__
