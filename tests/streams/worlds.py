"""Small data sets that several tests use: random pixels in arrays, folders and tables."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from cillab.streams.arrays import ArraySource, Images


def array_source(classes: int = 6, train: int = 5, test: int = 3, size: int = 8, masks: bool = False) -> ArraySource:
    """Labels are interleaved (0, 1, 2, 0, 1, 2...), so that order within a class shows."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("test", test)):
        labels = np.tile(np.arange(classes), count).astype(np.int64)
        images = rng.integers(0, 256, (len(labels), 3, size, size), dtype=np.uint8)
        ids = tuple(f"{split}/{row}" for row in range(len(labels)))
        splits[split] = Images(images, labels, ids, images[:, 0] > 127 if masks else None)
    return ArraySource("random", tuple(f"kind {c}" for c in range(classes)), splits)


def picture(seed: int, width: int = 12, height: int = 10, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def folder(root: Path, counts: dict[str, int], width: int = 12, height: int = 10) -> Path:
    """Classes with so many PNG files each, all different."""
    for class_name, count in counts.items():
        (root / class_name).mkdir(parents=True)
        for k in range(count):
            picture(hash_of(class_name, k), width, height).save(root / class_name / f"{k:03}.png")
    return root


def hash_of(text: str, number: int) -> int:
    return sum(os.fsencode(text)) * 1000 + number


def table(
    path: Path, cells: list[bytes | None], labels: list[int | None], names: list[str] | None, column: str = "label"
) -> None:
    """A parquet file in the layout of Hugging Face data sets, in row groups of 4."""
    content = pa.table(
        {
            "image": pa.array(
                [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(cells)],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            column: pa.array(labels, pa.int64()),
        }
    )
    if names is not None:
        features = {"image": {"_type": "Image"}, column: {"names": names, "_type": "ClassLabel"}}
        content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path, row_group_size=4)
