"""The pretended device refuses what a real one refuses, and lets through what a real one lets through."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.pretended import Pretended

MIXED = "Expected all tensors to be on the same device"


@pytest.fixture(autouse=True)
def mode():
    with Pretended() as mode:
        yield mode


def on_gpu(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, device="cuda")


def test_a_tensor_is_where_it_was_asked_to_be() -> None:
    x = on_gpu(3)
    assert str(x.device) == "cuda:0" and x.is_cuda and not x.is_cpu
    for made in (x + 1, x[:2], x.double(), x.sum(), torch.zeros_like(x), x.new_zeros(2), *x, x.topk(2).indices):
        assert made.device == x.device
    for made in (torch.ones(3).cuda(), torch.ones(3).to(x), torch.ones(3).to("cuda", torch.float64)):
        assert made.device == x.device
    assert torch.as_tensor(torch.ones(2), device="cuda").is_cuda
    assert torch.ones(3).is_cpu and torch.zeros_like(x, device="cpu").is_cpu


def test_cpu_clears_by_a_copy() -> None:
    x = on_gpu(3)
    for back in (x.cpu(), x.to("cpu"), x.to(torch.zeros(1))):
        assert back.is_cpu and back.numpy().sum() == 3
        back.zero_()
    assert x.is_cuda and float(x.sum()) == 3


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3) * x,
        lambda x: torch.ones(3) * x.sum(),  # a device tensor without axes is no CPU scalar
        lambda x: x @ torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.stack([x.sum(), torch.ones(())]),
        lambda x: torch.where(x > 0, x, torch.ones(3)),
        lambda x: x.add_(torch.ones(3)),
        lambda x: torch.zeros(()).add_(x.sum()),
        lambda x: x.__setitem__(torch.tensor([0, 1]), torch.ones(2)),
        lambda x: nn.functional.linear(x, torch.ones(2, 3)),
        lambda x: nn.functional.cross_entropy(x[None], torch.tensor([0])),
    ],
)
def test_mixing_raises(mix) -> None:
    with pytest.raises(RuntimeError, match=MIXED):
        mix(on_gpu(3))


def test_what_may_mix() -> None:
    x, chosen = on_gpu(3), torch.tensor([0, 2])
    assert (x * torch.tensor(2.0)).is_cuda
    assert x[chosen].is_cuda and x[chosen.cuda()].is_cuda
    x[:2] = torch.zeros(2)
    x[chosen] = torch.tensor(5.0)
    assert x.cpu().copy_(x).is_cpu
    assert x.tolist() == [5, 0, 5]
    with pytest.raises(RuntimeError, match="indices should be on cpu"):
        _ = torch.ones(3)[chosen.cuda()]


def test_the_host_gets_nothing_by_itself() -> None:
    for asked in (lambda x: x.numpy(), np.asarray):
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\) first"):
            asked(on_gpu(3))


def test_draws_need_a_generator_of_the_device() -> None:
    rng = torch.Generator()
    for draw in (lambda: torch.randn(3, device="cuda", generator=rng), lambda: on_gpu(3).normal_(generator=rng)):
        with pytest.raises(RuntimeError, match="for generator"):
            draw()
    assert torch.randn(3, generator=rng).to("cuda").is_cuda


def test_mps_has_no_float64() -> None:
    for made in (
        lambda: torch.zeros(2, device="mps", dtype=torch.float64),
        lambda: torch.zeros(2, device="mps").double(),
        lambda: torch.zeros(2, dtype=torch.float64).to("mps"),
    ):
        with pytest.raises(TypeError, match="float64"):
            made()
    assert torch.zeros(2, dtype=torch.float64).to("mps", torch.float32).is_mps


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
def test_a_module_trains_there(optimiser) -> None:
    layer = nn.Linear(3, 2).to(on_gpu(1))
    assert nn.Linear(3, 2).to("cuda").weight.is_cuda
    assert all(p.is_cuda and nn.Parameter(p.detach().clone()).is_cuda for p in layer.parameters())
    steps = optimiser(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer(on_gpu(4, 3)).square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.is_cuda
    steps.step()
    assert layer.weight.is_cuda and not torch.equal(before, layer.weight)
    assert layer.cpu().weight.is_cpu


def test_a_tag_ends_with_its_tensor() -> None:
    for _ in range(100):
        assert on_gpu(5).is_cuda  # freed at once
        assert torch.empty(5).is_cpu, "the address came back with its tag"
