"""Cross-entropy over seen or local classes, against the definition written out."""

import math

import pytest
import torch

from cillab.parts.losses import cross_entropy, with_margin


def test_seen_and_local_by_hand() -> None:
    logits, labels = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([40])
    seen, local = (10, 20, 40), (20, 40)
    by_hand_seen = math.log(math.exp(1) + math.exp(2) + 1)
    by_hand_local = math.log(math.exp(2) + 1)
    assert cross_entropy(logits, labels, seen, local).item() == pytest.approx(by_hand_seen, abs=1e-6)
    assert cross_entropy(logits, labels, seen, local, "local").item() == pytest.approx(by_hand_local, abs=1e-6)


def test_local_leaves_old_rows_without_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    cross_entropy(logits, torch.tensor([20, 40]), (10, 20, 40), (20, 40), "local").backward()
    assert not logits.grad[:, 0].any() and logits.grad[:, 1:].any()


def test_the_margin_by_the_formula_and_without_nan_at_the_ends() -> None:
    cosines = torch.tensor([[0.3, -0.2, 0.9], [1.0, 0.1, -1.0]], dtype=torch.float64, requires_grad=True)
    got = with_margin(cosines, torch.tensor([2, 0]), 0.4)
    assert float(got[0, 2].detach()) == pytest.approx(math.cos(math.acos(0.9) + 0.4))
    assert torch.equal(got[0, :2].detach(), cosines[0, :2].detach())
    got.sum().backward()
    assert cosines.grad is not None and bool(cosines.grad.isfinite().all())
