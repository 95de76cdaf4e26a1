"""Live what-ifs give what recomputing everything gives: `collapse`, scikit-learn's ridge, naive loops."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from cillab.geometry.collapse import collapse
from cillab.geometry.etf import gram_error
from cillab.geometry.moments import Moments
from cillab.geometry.whatif import Answer, Question, WhatIf

few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**31)
IDS = (7, 402, 3, 15, 8, 99)
NAMES = {
    "nc1": "nc1_pinv", "nc1_quotient": "nc1_quotient", "cdnv": "cdnv", "nc2_equinorm": "nc2_equinorm",
    "nc2_equiangularity": "nc2_equiangularity", "nc2_maximal_angle": "nc2_maximal_angle",
    "nc3_distance": "nc3_distance", "nc3_cosine": "nc3_cosine", "nc3_uniformity": "nc3_uniformity",
    "nc4": "nc4_agreement",
}  # fmt: skip


def world(seed: int, dim: int = 10) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unbalanced classes far from the origin, and a head that is wrong sometimes."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor([c for i, c in enumerate(IDS) for _ in range(9 + 3 * i)])
    means = 1.5 * torch.randn(len(IDS), dim, generator=g, dtype=torch.float64)
    features = means[[IDS.index(c) for c in labels.tolist()]] + torch.randn(len(labels), dim, generator=g) + 50
    weight = means + 0.8 * torch.randn(len(IDS), dim, generator=g)
    bias = -(weight @ torch.full((dim,), 50.0, dtype=torch.float64)) - means.square().sum(dim=1) / 2
    shuffle = torch.randperm(len(labels), generator=g)
    return features[shuffle], labels[shuffle], weight, bias


def naive(x: Tensor, y: Tensor, classes: tuple[int, ...], weight: Tensor, bias: Tensor | None) -> dict[str, float]:
    found = collapse(Moments.of(x, y), weight, bias, head_classes=classes, features=x, labels=y)
    return {ours: getattr(found, theirs) for ours, theirs in NAMES.items()}


def numbers(answer: Answer) -> dict[str, float]:
    return {name: getattr(answer, name) for name in NAMES}


@given(seed=seeds)
@few
def test_unchanged_it_is_the_collapse_record_and_the_accuracy(seed: int) -> None:
    x, y, weight, bias = world(seed)
    answer = WhatIf(x, y, IDS, weight, bias, new_classes=IDS[4:]).ask()
    assert numbers(answer) == pytest.approx(naive(x, y, IDS, weight, bias), rel=1e-8)
    guess = np.array(IDS)[(x.numpy() @ weight.numpy().T + bias.numpy()).argmax(axis=1)]
    new = np.isin(y.numpy(), IDS[4:])
    assert answer.predictions.tolist() == guess.tolist()
    assert answer.accuracy == pytest.approx((guess == y.numpy()).mean())
    assert answer.new_accuracy == pytest.approx((guess == y.numpy())[new].mean())
    assert answer.old_accuracy == pytest.approx((guess == y.numpy())[~new].mean())
    assert answer.recall.tolist() == pytest.approx([(guess == c)[y.numpy() == c].mean() for c in IDS])


@given(seed=seeds, drop=st.sets(st.sampled_from(IDS), min_size=1, max_size=4))
@few
def test_dropping_classes_is_never_having_had_them(seed: int, drop: set[int]) -> None:
    x, y, weight, bias = world(seed)
    answer = WhatIf(x, y, IDS, weight, bias).ask(dropped=tuple(drop))
    left = [i for i, c in enumerate(IDS) if c not in drop]
    images, ids = torch.tensor([int(c) not in drop for c in y]), tuple(IDS[i] for i in left)
    fresh = naive(x[images], y[images], ids, weight[left], bias[left])
    assert answer.classes == ids
    assert torch.equal(answer.kept, images)
    assert numbers(answer) == pytest.approx(fresh, rel=1e-7, nan_ok=True)


@given(seed=seeds, gamma=st.floats(1e-2, 1e4))
@few
def test_every_ridge_from_one_eigendecomposition(seed: int, gamma: float) -> None:
    x, y, weight, bias = world(seed)
    ours = WhatIf(x, y, IDS, weight, bias).ridge(gamma)
    theirs = Ridge(alpha=gamma).fit(x.numpy(), (y[:, None] == torch.tensor(IDS)).double().numpy())
    np.testing.assert_allclose(ours[0].numpy(), theirs.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours[1].numpy(), theirs.intercept_, rtol=1e-6, atol=1e-6)
    answer = WhatIf(x, y, IDS, weight, bias).ask(gamma=gamma)
    assert numbers(answer) == pytest.approx(naive(x, y, IDS, *ours), rel=1e-7)


def test_blending_ends_at_the_etf_and_leaves_the_norm() -> None:
    x, y, weight, bias = world(5)
    what = WhatIf(x, y, IDS, weight, bias)
    assert numbers(what.ask(blend=0.0)) == numbers(what.ask())
    assert float(what.etf.norm()) == pytest.approx(float(weight.norm()))
    assert gram_error(what.etf * (len(IDS) ** 0.5 / what.etf.norm())) < 1e-9
    full = what.ask(blend=1.0)
    assert full.nc3_cosine > what.ask().nc3_cosine
    around = -what.etf @ what.means.mean(dim=0)
    assert numbers(full) == pytest.approx(naive(x, y, IDS, what.etf, around), rel=1e-8)


def test_temperature_changes_confidence_only() -> None:
    x, y, weight, bias = world(6)
    what = WhatIf(x, y, IDS, weight, bias)
    cold, warm = what.ask(temperature=0.01), what.ask(temperature=1e6)
    assert numbers(cold) == numbers(warm)
    assert (cold.confidence, warm.confidence) == (pytest.approx(1, abs=0.05), pytest.approx(1 / len(IDS), abs=1e-3))
    logits = x @ weight.T + bias
    assert what.ask().confidence == pytest.approx(float(logits.softmax(dim=1).amax(dim=1).mean()))


def test_another_head_and_training_images_of_their_own() -> None:
    x, y, weight, bias = world(7)
    train = world(8)
    what = WhatIf(x, y, IDS, weight, bias, fit=train[:2])
    assert torch.allclose(what.means, _means(*train[:2]))
    swapped = what.ask(Question(weight=weight.flip(0), bias=bias.flip(0)))
    guess = torch.tensor(IDS)[(x @ weight.flip(0).T + bias.flip(0)).argmax(dim=1)]
    assert torch.equal(swapped.predictions, guess)


def _means(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x[y == c].mean(dim=0) for c in IDS])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dropped": (1,)}, "Cannot drop classes \\[1\\]"),
        ({"dropped": IDS[1:]}, "At least 2 classes must stay, got 1"),
        ({"blend": 1.5}, "0 <= blend <= 1"),
        ({"gamma": 0.0}, "gamma > 0"),
        ({"weight": torch.zeros(6, 3)}, "Expected a head \\[6, 10\\], got \\[6, 3\\]"),
    ],
)
def test_errors_say_what_was_given(changed: dict, message: str) -> None:
    x, y, weight, bias = world(9)
    with pytest.raises(ValueError, match=message):
        WhatIf(x, y, IDS, weight, bias).ask(**changed)


def test_a_class_without_an_image_is_named() -> None:
    x, y, weight, bias = world(9)
    with pytest.raises(ValueError, match=r"Classes without an image to fit on: \[402\]"):
        WhatIf(x[y != 402], y[y != 402], IDS, weight, bias)
    assert set(asdict(Question())) == {"weight", "bias", "gamma", "blend", "temperature", "dropped"}
