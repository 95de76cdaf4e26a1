"""Real data sets, where they are at hand: `CILLAB_TEST_DATA`, or `../shared/data` beside the repository."""

import os
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch

from cillab.core.contract import Backbone
from cillab.core.pixels import Preprocessing
from cillab.protocol.named import named_set
from cillab.streams.checking import check_set
from cillab.streams.opening import open_source
from cillab.streams.sources import Options, Source
from cillab.streams.stream import Stream, make_stream

pytestmark = pytest.mark.real_data

ROOT = Path(os.environ.get("CILLAB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
CANVAS = Preprocessing(96, 0.9, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def named(folder: str) -> str:
    if not (ROOT / folder / "train.parquet").is_file():
        pytest.skip(f"no {folder} under {ROOT}: set CILLAB_TEST_DATA")
    return f"parquet:{ROOT / folder}"


@pytest.fixture(scope="module")
def cifar() -> Source:
    return open_source(named("cifar100"))


@pytest.fixture(scope="module")
def caltech() -> Stream:
    return make_stream(named("caltech101_71"), "B0-Inc10", train_per_class=2, test_per_class=2)


def test_cifar_is_complete(cifar: Source) -> None:
    assert np.bincount(cifar.labels("train")).tolist() == [500] * 100
    assert np.bincount(cifar.labels("test")).tolist() == [100] * 100
    assert (cifar.class_names[0], cifar.class_names[99]) == ("apple", "worm")
    assert list(cifar.class_names) == sorted(cifar.class_names)


@pytest.mark.slow
def test_cifar_has_its_published_mean_and_spread(cifar: Source) -> None:
    assert cifar.common_size("train", np.arange(len(cifar.labels("train")))) == (32, 32)
    pixels = cifar.images("train", np.arange(50_000))
    channels = np.moveaxis(pixels, 1, 0).reshape(3, -1) / np.float32(255)
    assert np.abs(channels.mean(axis=1, dtype=np.float64) - [0.5071, 0.4865, 0.4409]).max() < 1e-4
    assert np.abs(channels.std(axis=1, dtype=np.float64) - [0.2673, 0.2564, 0.2762]).max() < 1e-4


def test_cifar_in_the_order_of_the_literature(cifar: Source) -> None:
    stream = make_stream(cifar, "B0-Inc10", train_per_class=4, test_per_class=2)
    assert stream[0].classes == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)
    assert stream[0].class_names[68] == "road"
    assert stream[0].data.images.shape == (40, 3, 32, 32)
    assert stream[:2].test().labels.bincount(minlength=100)[list(stream.order[:20])].tolist() == [2] * 20


def test_caltech_has_mixed_sizes_and_fits_a_canvas(caltech: Stream) -> None:
    assert caltech.sizes == (10,) * 7 + (1,)
    assert caltech.native_size is None
    backbone = create_autospec(Backbone, instance=True, device=torch.device("cpu"), preprocessing=CANVAS)
    placed = caltech.on(backbone)
    images = torch.cat([task.data.images for task in placed])
    assert images.shape == (142, 3, 106, 106)
    assert images.float().flatten(1).std(dim=1).min() > 5  # no empty picture
    assert placed.digest == caltech.digest


def test_caltech_is_complete() -> None:
    source = open_source(named("caltech101_71"))
    assert len(source.labels("train")) == 1410
    assert np.bincount(source.labels("test")).tolist() == [10] * 71


def test_cifar_by_its_name_is_the_official_division(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `CILLAB_DATA` names the folder; the images stay closed here (`cillab data check` opens them)."""
    named("cifar100")
    monkeypatch.setenv("CILLAB_DATA", str(ROOT))
    said = check_set(named_set("cifar100"), Options(), decode=False)
    assert said.faults == []
    assert said.lines["images"] == "50,000 training, 10,000 test: the official division"
