"""A held-out source has no path to the test images, and its two splits share none."""

import numpy as np
import pytest

from cillab.core.errors import InvalidRequestError
from cillab.streams.opening import open_source
from cillab.streams.stream import make_stream


def test_both_splits_are_training_images_and_disjoint() -> None:
    inner, held = open_source("digits"), open_source("held-out:digits")
    every = {s: set(held.ids(s, np.arange(len(held.labels(s))))) for s in ("train", "test")}
    training = set(inner.ids("train", np.arange(len(inner.labels("train")))))
    assert every["train"] | every["test"] == training and not every["train"] & every["test"]
    share = len(every["test"]) / len(training)
    assert 0.18 < share < 0.22
    rows = np.array([0, 3])
    names = held.ids("test", rows)
    where = [int(name.rpartition("/")[2]) for name in names]
    assert names[0].startswith("train/") and len(where) == 2


def test_it_streams_like_any_other() -> None:
    stream = make_stream("held-out:digits", split="B0-Inc5", order="natural")
    assert len(stream) == 2 and stream.info["data"] == "held-out:digits"
    assert stream.digest != make_stream("digits", split="B0-Inc5", order="natural").digest


def test_not_twice() -> None:
    with pytest.raises(InvalidRequestError, match="another held-out"):
        open_source("held-out:held-out:digits")
