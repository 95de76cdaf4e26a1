"""The noise slot against its equations written out term by term, and the properties that MiN relies on."""

import subprocess
import sys

import pytest
import torch

from cillab.backbones import NoiseSlot, Slots, metered, sampling
from cillab.core import rng
from cillab.core.errors import InvalidRequestError
from tests.backbones.models import clip, pictures, pixels, vit


def noisy(tasks: int = 3, branch: bool = True, seed: int = 0, dim: int = 32, width: int = 6) -> NoiseSlot:
    slot = NoiseSlot(dim, width, branch=branch, generator=rng.stream(seed, "noise"))
    for count in range(1, tasks + 1):
        slot.grow(torch.linspace(0.2, 0.8, count))
    for index, parameter in enumerate(slot.parameters()):
        if parameter is not slot.weights:
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=rng.stream(seed, index)))
    return slot


def by_hand(slot: NoiseSlot, r: torch.Tensor) -> torch.Tensor:
    """Equations (1) and (2), generator by generator."""
    total = r + (r @ slot.branch.weight.T + slot.branch.bias if slot.branch is not None else 0)
    for weight, generator in zip(slot.weights, slot.generators, strict=True):
        z = r @ slot.down
        mu = z @ generator.mu.weight.T + generator.mu.bias
        sigma = z @ generator.sigma.weight.T + generator.sigma.bias
        total = total + weight * (mu + 1.0 * sigma) @ slot.up
    return total


def tokens(dtype=torch.float32) -> torch.Tensor:
    return torch.randn(2, 5, 32, dtype=dtype, generator=rng.stream(7, "tokens"))


@pytest.mark.parametrize("tasks", [0, 1, 4])
@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("width", [6, 24])
def test_folded_equals_the_sum_over_generators(tasks: int, branch: bool, width: int) -> None:
    slot = noisy(tasks, branch, width=width).double()
    assert slot.folds_whole == (width == 24)
    r = tokens(torch.float64)
    assert torch.allclose(slot(r), by_hand(slot, r), atol=1e-12)
    slot, r = slot.float(), r.float()
    assert torch.allclose(slot(r), by_hand(slot, r), atol=1e-6 * float(by_hand(slot, r).detach().abs().max()))


def test_gradients_go_through_the_fold() -> None:
    slot = noisy().double().requires_grad_(True)
    r, parameters = tokens(torch.float64), list(slot.parameters())
    folded = torch.autograd.grad(slot(r).square().sum(), parameters)
    literal = torch.autograd.grad(by_hand(slot, r).square().sum(), parameters)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(folded, literal, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in folded)


def test_a_fresh_generator_changes_no_bit_and_can_learn() -> None:
    slot, r = noisy(2), tokens()
    before = slot(r)
    slot.grow(torch.cat([slot.weights, torch.tensor([0.5])]))
    assert torch.equal(slot(r), before)
    for parameter in slot.newest():
        parameter.requires_grad_(True)
    slot(r).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in slot.newest())
    assert all(p.grad is None for g in slot.generators[:-1] for p in g.parameters())  # the older ones are frozen


def test_initial_projections_follow_the_released_code() -> None:
    slot = NoiseSlot(768, 192, generator=rng.stream(0))
    assert slot.down.abs().max() == pytest.approx(0.0722, abs=1e-4)  # 1 / sqrt(columns), columns 192
    assert slot.up.abs().max() == pytest.approx(0.0361, abs=1e-4)  # columns 768
    assert NoiseSlot(768, 192, init="normal", generator=rng.stream(0)).down.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("make", [vit, clip])
def test_a_state_decides_the_number_of_generators(make) -> None:
    backbone, own = make(), pixels(2)
    full = Slots.everywhere(backbone, "after", lambda i: noisy(3, seed=i))
    empty = Slots.everywhere(backbone, "after", lambda i: noisy(0, seed=100 + i))
    with torch.no_grad(), backbone.wearing(full):
        expected = backbone.embed(own)
    start = {name: tensor.clone() for name, tensor in empty.state().tensors.items()}
    assert {f"after:{name}/{matrix}" for name in backbone.block_names for matrix in ("down", "up")} <= start.keys()
    empty.load(full.state())
    with torch.no_grad(), backbone.wearing(empty):
        assert torch.equal(backbone.embed(own), expected)
    empty.load(type(full.state())(start))  # and back to none, as when a task is undone
    assert all(len(slot.generators) == len(slot.weights) == 0 for slot in empty)


def test_sampling_has_the_right_mean_and_leaves_the_global_generator_alone() -> None:
    """With e ~ N(0, I) the mean over draws is the noise of mu alone, and the spread comes from sigma."""
    backbone, slot = vit(), noisy(1, branch=False)
    slots = Slots(backbone, {"after:blocks.0": slot})
    before, r = torch.get_rng_state(), tokens()[:1, :1].expand(4000, 1, 32)
    with sampling(slots, rng.stream(0, "epsilon")), torch.no_grad():
        drawn = slot(r)
    generator = slot.generators[0]
    mean = r[0] + slot.weights[0] * generator.mu(r[0] @ slot.down) @ slot.up
    spread = drawn.std(dim=0)
    assert torch.allclose(drawn.mean(dim=0), mean, atol=5 * float(spread.max()) / 4000**0.5)
    assert spread.min() > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(slot(r[:1]), slot(r[:1]))  # deterministic again


def test_drawn_features_are_not_remembered() -> None:
    backbone, images = vit(), pictures(2)
    slots = Slots(backbone, {"after:blocks.0": noisy(2)})
    with torch.no_grad(), backbone.wearing(slots):
        fixed = backbone(images)
        with sampling(slots, rng.stream(0)):
            assert not torch.equal(backbone(images), backbone(images))
        assert torch.equal(backbone(images), fixed)


def test_the_meter_reads_noise_over_signal() -> None:
    """Oracle: the ratio written out on the tokens that the slot received, over two batches of different size."""
    backbone, slot = vit(), noisy(2, branch=False)
    slots = Slots(backbone, {"after:blocks.1": slot})
    ratios = []
    with torch.no_grad(), backbone.wearing(slots), metered(slots) as meter:
        handle = backbone.module.blocks[1].register_forward_hook(
            lambda _m, _i, out: ratios.append(slot.ratios(out).flatten(1)), prepend=True
        )
        backbone.embed(pixels(3))
        backbone.embed(pixels(2, seed=1))
        handle.remove()
    assert torch.allclose(meter.ratios()[0].float(), torch.cat(ratios, dim=1).mean(dim=1), rtol=1e-5)
    r = tokens()
    part = slot.weights[1] * slot.unfolded(r)[1] @ slot.up
    assert torch.allclose(slot.ratios(r)[1], part.norm(dim=-1) / r.norm(dim=-1))
    with pytest.raises(InvalidRequestError, match=r"use backbone.embed"), metered(slots) as meter:
        meter.ratios()
    slot.mix(torch.tensor([0.0, 1.0]))
    assert slot.ratios(r)[0].max() == 0


def test_a_slot_loads_no_library_of_symbols() -> None:
    code = (
        "import sys, torch; from cillab.backbones import NoiseSlot\n"
        "slot = NoiseSlot(8, 4, branch=True, generator=torch.Generator()); slot.grow(torch.ones(1))\n"
        "assert not any(p.any() for p in slot.branch.parameters()) and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
