"""Subspaces: the bases hold what they say, and the sketch errs within its bound."""

import numpy as np
import pytest
import torch

from cillab.core.state import pack, restore, snapshot, unpack
from cillab.parts.subspaces import Adam, Directions, FrequentDirections, SubspaceSteps, leading_left


def content(seed: int, decay: float = 0.6, dim: int = 12) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=draws)).Q
    return basis * decay ** torch.arange(dim)


def held(subspaces: Directions, c: torch.Tensor) -> float:
    return 1 - float(subspaces.without(0, c).square().sum() / c.square().sum())


def gpm(matrices: list[np.ndarray], share: float) -> np.ndarray:
    """GPM's rule in NumPy, one direction at a time."""
    basis = np.zeros((len(matrices[0]), 0))
    for c in matrices:
        rest = c - basis @ basis.T @ c
        u, s, _ = np.linalg.svd(rest)
        got, count = 1 - (rest**2).sum() / (c**2).sum(), 0
        while got < share:
            got, count = got + s[count] ** 2 / (c**2).sum(), count + 1
        basis = np.hstack([basis, u[:, :count]])
    return basis


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_bases_grow_as_gpm_says(share) -> None:
    matrices, subspaces = [content(seed) for seed in range(3)], Directions(12, 1)
    for c in matrices:
        subspaces.extend(0, c, share)
        assert held(subspaces, c) >= share - 1e-5
    expected = gpm([c.double().numpy() for c in matrices], share)
    basis = subspaces.basis(0).double().numpy()
    np.testing.assert_allclose(basis @ basis.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)


def test_what_is_held_already_adds_nothing_and_nothing_fits_into_a_full_one() -> None:
    subspaces, c = Directions(12, 2), content(0)
    assert subspaces.extend(0, c, 0.9) > 0
    assert subspaces.extend(0, c, 0.9) == 0
    assert subspaces.extend(0, torch.zeros(12, 3), 0.9) == 0
    for seed in range(9):
        subspaces.extend(0, content(seed), 1.0)
    assert subspaces.sizes() == [12, 0]
    assert float(subspaces.without(0, c).abs().max()) < 1e-5
    assert torch.equal(subspaces.without(1, c), c)


def test_they_survive_save_and_load() -> None:
    subspaces = Directions(12, 2)
    subspaces.extend(1, content(3), 0.9)
    other = Directions(12, 2)
    restore({"kept": other}, unpack(*pack(snapshot({"kept": subspaces}))))
    assert torch.equal(other.basis(1), subspaces.basis(1)) and other.sizes() == subspaces.sizes()


def test_the_sketch_errs_within_its_bound_and_keeps_low_rank_exactly() -> None:
    draws = torch.Generator().manual_seed(0)
    rows = (torch.randn(200, 12, generator=draws) * 0.7 ** torch.arange(12)).double()
    sketch = FrequentDirections(12, 5)
    for part in rows.split(17):
        sketch.add(part)
    gap = rows.T @ rows - sketch.sketch.T @ sketch.sketch
    values = torch.linalg.eigvalsh(gap)
    assert float(values.min()) > -1e-9
    assert float(values.max()) <= float(rows.square().sum()) / 6 + 1e-9
    exact, low = FrequentDirections(12, 5), rows[:, :4] @ torch.randn(4, 12, generator=draws).double()
    for part in low.split(17):
        exact.add(part)
    torch.testing.assert_close(exact.sketch.T @ exact.sketch, low.T @ low)


def test_leading_vectors_are_those_of_an_svd() -> None:
    c = content(5)
    (found,) = leading_left([c], 3)
    u, _, _ = np.linalg.svd(c.double().numpy())
    np.testing.assert_allclose((found @ found.T).numpy(), u[:, :3] @ u[:, :3].T, atol=1e-6)


def test_adam_is_torchs() -> None:
    draws = torch.Generator().manual_seed(0)
    theirs = torch.nn.Parameter(torch.zeros(4, 3))
    ours, adam, optimiser = torch.zeros(4, 3), Adam(), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        theirs.grad = torch.randn(4, 3, generator=draws)
        ours = ours - 0.1 * adam.step(theirs.grad)
        optimiser.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-7)


def low_rank(seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(20, 2, generator=draws) @ torch.randn(2, 8, generator=draws)


def test_directions_are_looked_for_again_every_k_steps() -> None:
    own = SubspaceSteps(low_rank(0), 2, 6, 3, torch.Generator().manual_seed(0))
    for seed in range(7):
        own.step(low_rank(seed))
        u, _, _ = torch.linalg.svd(low_rank(seed - seed % 3), full_matrices=False)  # of the steps 0, 3 and 6
        torch.testing.assert_close(own.directions @ own.directions.T, u[:, :2] @ u[:, :2].T, atol=1e-4, rtol=0)


def test_the_sketch_of_the_steps_is_that_of_all_gradients() -> None:
    """Three gradients of rank 2 fit into six rows: nothing is lost."""
    own = SubspaceSteps(low_rank(0), 1, 7, 2, torch.Generator().manual_seed(0))
    whole = torch.zeros(20, 20)
    for seed in range(3):
        own.step(low_rank(seed))
        whole += low_rank(seed) @ low_rank(seed).T
    torch.testing.assert_close((own.sketch.sketch.T @ own.sketch.sketch).float(), whole, rtol=1e-4, atol=1e-3)
