"""A low-rank change of the attention's input maps for each task, and their weighted sum."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cillab.backbones.lora import LoRA, changed
from cillab.core.arrays import double
from cillab.core.contract import Delta
from cillab.parts.method import Method
from cillab.parts.wardrobe import Wardrobe

Weights = Callable[[], Float[Tensor, " task"] | None]


def low_rank(learner: Method[Any], rank: int, maps: Sequence[Any], *names: str | int) -> LoRA:
    """A fresh U D, the product without a factor; `names` tell its draws from others'."""
    return LoRA(learner.backbone, rank, float(rank), maps, generator=learner.draws("low rank", *names))


@final
class Branches(Delta):
    """W + sum_i w_i U_i D_i in place of W, over the branches of a wardrobe; `weights` are ones where there are none."""

    def __init__(self, wardrobe: Wardrobe[LoRA], weights: Weights = lambda: None) -> None:
        self._wardrobe, self._weights = wardrobe, weights

    def change(self, block: int) -> Float[Tensor, "rows dim"]:
        """What is added to the stacked matrix of `block`: one product of the factors side by side."""
        branches, weights = [*self._wardrobe], self._weights()
        ups = [branch.up[block] for branch in branches]
        if weights is not None:
            ups = [weight * up for weight, up in zip(weights, ups, strict=True)]
        product = torch.cat(ups, dim=2) @ torch.cat([b.down[block] for b in branches], dim=1)
        return branches[0].stacked(product)

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Put the sums in the place of the matrices."""
        if not len(self._wardrobe):
            yield
            return
        with changed(module, self._wardrobe[0].names, self.change):
            yield

    def tensors(self) -> Mapping[str, Tensor]:
        """The factors of every branch, and the weights."""
        found = {f"{i}/{name}": t for i, branch in enumerate(self._wardrobe) for name, t in branch.tensors().items()}
        weights = self._weights()
        return found if weights is None else found | {"weights": weights}


def measured(wardrobe: Wardrobe[LoRA]) -> dict[str, Float[Tensor, "layer task"]]:
    """||U_i D_i||_F and the rank of U_i D_i (singular values above a thousandth of the largest), all maps together.

    From the factors' r x r triangles: U = Q R and D^T = P S, so that the singular values of U D are those of R S^T.
    """
    columns = []
    with torch.no_grad():
        for branch in wardrobe:
            values = [
                torch.linalg.svdvals(torch.linalg.qr(double(up)).R @ torch.linalg.qr(double(down).mT).R.mT)
                for up, down in zip(branch.up, branch.down, strict=True)
            ]
            columns.append(torch.stack(values))  # [layer, map, rank]
    if not columns:
        return {}
    spectra, home = torch.stack(columns, dim=1), wardrobe[0].up[0].device
    used = (spectra > 1e-3 * spectra.amax(dim=(2, 3), keepdim=True)) & (spectra > 0)
    return {
        "lowrank/magnitude": spectra.square().sum(dim=(2, 3)).sqrt().float().to(home),
        "lowrank/rank": used.sum(dim=3).amax(dim=2).float().to(home),
    }
