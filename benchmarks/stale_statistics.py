"""Why learnt noise can cost accuracy: MiN's classifier sums features of old tasks that later noise has moved.

    python benchmarks/stale_statistics.py [--lr 0.05] [--data held-out:shields] [--variant recentred]

Teaches `min` on a stream, then solves the same ridge once more on all training images under the final network (an
oracle: no class-incremental learner has them). If that closes the gap, the sums were stale; if not, the noise is no
help even when nothing is stale. The same two numbers without learnt noise stand beside it.
"""

import argparse
import json
from typing import Any

import cillab
from cillab.learners.checks import learn
from cillab.learners.min import MiN, MiNParams
from cillab.parts.least_squares import Ridge

import torch


def accuracy(learner: MiN, ridge: Ridge, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose largest ridge score is that of their class."""
    seen = torch.tensor(ridge.classes)
    with torch.no_grad():
        scores = torch.cat([ridge(learner.expand(learner.features(x))) for x in images.split(256)])
    return float((seen[scores.argmax(dim=1)] == labels).double().mean())


def measure(data: str, variant: Any, lr: float, seed: int, per_class: int | None) -> dict[str, float | str]:
    """Accuracy after the last task with the sums as they are and with fresh ones, and how far features have moved."""
    backbone = cillab.backbone("bundled:vit")
    stream = cillab.stream(data, split="B0-Inc10", seed=seed, train_per_class=per_class).on(backbone)
    learner = MiN(backbone, MiNParams.model_validate({"variant": variant, "fit.lr": lr}), seed=seed)
    first = stream.train(0).images[:256]
    learn(learner, stream[0])
    with torch.no_grad():
        then = learner.features(first)
    for index in range(1, len(stream)):
        learn(learner, stream[index])
    with torch.no_grad():
        now = learner.features(first)
    fresh = Ridge(learner.params.expansion, learner.params.gamma)
    fresh.grow(learner.seen)
    for index in range(len(stream)):
        for images, labels in stream[index].batches(256):
            with torch.no_grad():
                fresh.add(learner.expand(learner.features(images)), labels)
    fresh.solve()
    test = stream.test(None)
    shift = now - then
    return {
        "data": data,
        "seed": seed,
        "variant": variant,
        "lr": lr,
        "accuracy": accuracy(learner, learner.classifier, test.images, test.labels),
        "accuracy_fresh_statistics": accuracy(learner, fresh, test.images, test.labels),
        "feature_shift_relative": float(shift.norm(dim=1).mean() / then.norm(dim=1).mean()),
        "shift_that_all_images_share": float(shift.mean(dim=0).norm() / shift.norm(dim=1).mean()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="shields")
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-9, 0.01, 0.05])
    parser.add_argument("--variant", choices=("recentred", "paper", "released"), default="paper")
    parser.add_argument("--seed", type=int, default=1993)
    parser.add_argument("--train-per-class", type=int)
    options = parser.parse_args()
    for rate in options.lr:
        print(json.dumps(measure(options.data, options.variant, rate, options.seed, options.train_per_class)))
