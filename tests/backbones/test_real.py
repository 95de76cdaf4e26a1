"""Golden numbers on real images with real weights: nearest class mean (cosine) on frozen DeiT-tiny at 224 px.

90.0 % on Caltech-71 (all images) is what timm's own model and transform give on PIL images in fp32 with the same rule;
the round figure of 89.3 % that goes with the data set lies between its Euclidean variants (89.0 % and 89.7 %).
62.7 % on CIFAR-100 (the first 20 train and 10 test images a class) goes with the data set. Tolerance half a point:
3 of 710 and 5 of 1000 images, the effect of bf16 where the CPU has it (measured: 1 image of 710).
"""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cillab.backbones import FrozenBackbone, make_backbone

FOLDER = Path(os.environ.get("CILLAB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real data in {FOLDER} (CILLAB_TEST_DATA may name it)"),
]


@pytest.fixture(scope="module")
def deit() -> FrozenBackbone:
    torch.set_num_threads(os.cpu_count() or 1)
    return make_backbone("timm:deit_tiny_patch16_224.fb_in1k", weights=FOLDER / "deit_tiny_patch16_224.safetensors")


def canvas(picture: Image.Image, side: int | None) -> np.ndarray:
    """Shortest side to `side`, centre square; or as it is."""
    picture = picture.convert("RGB")
    if side is not None:
        scale = side / min(picture.size)
        width, height = (max(side, int(length * scale)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - side) / 2), round((height - side) / 2)
        picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture).transpose(2, 0, 1)


def read(path: Path, per_class: int | None, side: int | None) -> tuple[Tensor, Tensor]:
    table = pq.read_table(path)
    labels, count = table["label"].to_numpy(), {}
    kept = []
    for row, label in enumerate(labels):
        count[label] = count.get(label, 0) + 1
        if per_class is None or count[label] <= per_class:
            kept.append(row)
    images = [canvas(Image.open(io.BytesIO(table["image"][row]["bytes"].as_py())), side) for row in kept]
    return torch.from_numpy(np.stack(images)), torch.from_numpy(labels[kept].astype(np.int64))


def nearest_mean(backbone: FrozenBackbone, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        known, asked = backbone(train[0]), backbone(test[0])
    means = torch.stack([known[train[1] == label].mean(dim=0) for label in train[1].unique()])
    found = train[1].unique()[(F.normalize(asked, dim=-1) @ F.normalize(means, dim=-1).T).argmax(dim=1)]
    return (found == test[1]).double().mean().item()


def test_nearest_mean_on_caltech(deit: FrozenBackbone) -> None:
    side = deit.preprocessing.resize
    assert side == 248
    train, test = (read(FOLDER / "caltech101_71" / f"{split}.parquet", None, side) for split in ("train", "test"))
    assert nearest_mean(deit, train, test) == pytest.approx(0.900, abs=0.005)


def test_nearest_mean_on_cifar(deit: FrozenBackbone) -> None:
    train = read(FOLDER / "cifar100" / "train.parquet", 20, None)
    test = read(FOLDER / "cifar100" / "test.parquet", 10, None)
    assert nearest_mean(deit, train, test) == pytest.approx(0.627, abs=0.005)
