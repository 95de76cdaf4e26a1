"""Where does training begin? The first block of each method that gets a gradient, and whether its views repeat.

    python benchmarks/prefixes.py [--learners NAME ...]

Blocks below the first trained one could be run once for an image, if its views were the same in every epoch. Each
method learns two small tasks of shields with its own settings (one epoch of each stage, and batches of eight); a hook
on every block notes which output has a gradient behind it. No clock is read: the table depends on no machine.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from cillab import backbone, stream
from cillab.backbones.frozen import FrozenBackbone
from cillab.learners import learners, make_learner
from cillab.parts import fitting
from cillab.parts.fitting import Fit

import torch


def stages_of(params: Any) -> dict[str, Fit]:
    """The stages of a method by name."""
    return {name: value for name, value in params if isinstance(value, Fit)}


def short(params: Any) -> Any:
    """The same settings with one epoch a stage."""
    once = {name: how.model_copy(update={"epochs": min(how.epochs, 1), "batch_size": 8})
            for name, how in stages_of(params).items()}  # fmt: skip
    return params.model_copy(update=once)


class Watch:
    """In steps on images: the augmentation that is asked for, and the first block whose output has a gradient."""

    def __init__(self, model: FrozenBackbone) -> None:
        self.first: list[int | None] = []
        self.views: set[str] = set()
        for index, name in enumerate(model.block_names):
            model.module.get_submodule(name).register_forward_hook(self._note(index))
        self._at: int | None = None  # counted from 1, a slot behind a block as that block; 0 is the stem
        own = model._embed

        def embed(pixels: torch.Tensor) -> torch.Tensor:
            self._at = None
            features = own(pixels)
            if torch.is_grad_enabled() and pixels.ndim == 4:
                self.first.append(self._at)
            return features

        model._embed = embed  # pyright: ignore[reportAttributeAccessIssue]

    def _note(self, index: int) -> Any:
        def hook(_module: Any, inputs: Any, output: torch.Tensor) -> None:
            if self._at is None and output.requires_grad:
                self._at = index if inputs[0].requires_grad else index + 1

        return hook


def rows(names: list[str]) -> Iterator[str]:
    """A line of the table for each method that takes steps on images."""
    data = stream("shields", split="B0-Inc4", train_per_class=4, test_per_class=1)
    for name in names:
        clip = "clip" in learners[name].capabilities.needs
        model: Any = backbone("bundled:clip" if clip else "bundled:vit")
        watch, asked = Watch(model), set[str]()
        own = fitting._seen_anew

        def seen(images: Any, where: Any, augment: Any, draws: Any, own: Any = own, asked: set[str] = asked) -> Any:
            asked.add(augment.kind)
            return own(images, where, augment, draws)

        fitting._seen_anew = seen
        try:
            learner = make_learner(name, model)
            epochs = {how.epochs for how in stages_of(learner.params).values()}
            learner = type(learner)(model, short(learner.params), seed=1993)
            blocks = []
            for index in range(2):
                watch.first.clear()
                for _ in learner.observe(data.on(model)[index]):
                    pass
                found = {at for at in watch.first if at is not None}
                blocks.append("-" if not watch.first else "none" if not found else str(min(found) or "stem"))
        except Exception as error:  # a method that needs another kind of stream
            yield f"| {name} | {type(error).__name__}: {str(error)[:60]} | | | |"
            continue
        finally:
            fitting._seen_anew = own
        shown = ", ".join(map(str, sorted(epochs))) or "-"
        yield f"| {name} | {blocks[0]} | {blocks[1]} | {', '.join(sorted(asked)) or '-'} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", default=list(learners))
    torch.set_num_threads(1)
    print("| learner | first trained block, task 1 | task 2 | views | epochs |\n|---|---|---|---|---|")
    for row in rows(parser.parse_args().learners):
        print(row, flush=True)


if __name__ == "__main__":
    main()
