r"""What a linear head reaches whose softmax knows the classes of its task alone, on features that never change.

    python benchmarks/local_heads.py [--data held-out:shields] [--train 30] [--test 20]
    python benchmarks/local_heads.py --data held-out:parquet:DIR --backbone timm:deit_tiny_patch16_224.fb_in1k \
        --weights FILE --image-size 160 --train 100 --test 50

Fine-tuning, prompts and low-rank methods train such a head on top of features that move. Here nothing moves, so what
this head lacks against class means on the same features is its own. `all` is accuracy over all classes, `within` over
those of the image's task, `task` how often the answer is a class of the right task. One class order, ten tasks.
"""

import argparse
from collections.abc import Mapping

import cillab
from cillab.core.contract import Task
from cillab.learners.checks import learn
from cillab.learners.simplecil import SimpleCIL, SimpleCILParams
from cillab.parts.heads import Linear, undecayed
from cillab.parts.losses import Competitors, cross_entropy
from cillab.streams.images import ImageSet

import torch
from torch import Tensor

CASES: tuple[tuple[str, float, int, Competitors], ...] = (
    ("sgd", 0.01, 70, "local"),
    ("sgd", 0.1, 70, "local"),
    ("sgd", 0.01, 200, "local"),
    ("sgd", 0.01, 1000, "local"),
    ("adam", 0.0005, 200, "local"),
    ("adam", 0.001, 200, "local"),
    ("sgd", 0.01, 200, "seen"),
)


def features_of(learner: SimpleCIL, images: Task | ImageSet) -> tuple[Tensor, Tensor]:
    """Features and labels of all images."""
    with torch.no_grad():
        found = [(learner.features(pixels).float(), labels) for pixels, labels in images.batches(128)]
    return torch.cat([features for features, _ in found]), torch.cat([labels for _, labels in found])


def train(tasks: list[tuple[Tensor, Tensor]], kind: str, lr: float, steps: int, competitors: Competitors) -> Linear:
    """A head that learns one task after the other: batches of 48, cosine schedule, rows that begin at zero."""
    torch.manual_seed(0)
    head = Linear(tasks[0][0].shape[1])
    for features, labels in tasks:
        new = tuple(labels.unique().tolist())
        head.grow(new)
        head.requires_grad_(True)
        steered = [undecayed(head)]
        optimiser = torch.optim.SGD(steered, lr, momentum=0.9) if kind == "sgd" else torch.optim.Adam(steered, lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            batch = torch.randint(len(labels), (48,))
            loss = cross_entropy(head(features[batch]), labels[batch], head.classes, new, competitors)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.requires_grad_(False)


def said(logits: Tensor, classes: tuple[int, ...], labels: Tensor, task_of: Mapping[int, int]) -> str:
    """The three accuracies, in percent."""
    columns = torch.tensor([task_of[c] for c in classes])
    own = torch.tensor([task_of[c] for c in labels.tolist()])
    ids, best = torch.tensor(classes), logits.argmax(dim=1)
    inside = logits.masked_fill(columns[None] != own[:, None], -torch.inf).argmax(dim=1)
    shares = (ids[best] == labels, ids[inside] == labels, columns[best] == own)
    return "".join(f"{100 * share.double().mean():8.1f}" for share in shares)


def main() -> None:
    """Print a line per head, below that of the class means."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", default="held-out:shields")
    ask.add_argument("--backbone", default="bundled:vit")
    ask.add_argument("--weights")
    ask.add_argument("--image-size", type=int)
    ask.add_argument("--train", type=int, default=30, help="training images a class")
    ask.add_argument("--test", type=int, default=20, help="test images a class")
    ask.add_argument("--seed", type=int, default=1993)
    given = ask.parse_args()
    backbone = cillab.backbone(given.backbone, weights=given.weights, image_size=given.image_size, precision="fp32")
    stream = cillab.stream(
        given.data, split="B0-Inc10", seed=given.seed, train_per_class=given.train, test_per_class=given.test
    ).on(backbone)
    means = SimpleCIL(backbone, SimpleCILParams(), seed=given.seed)
    tasks = []
    for index in range(len(stream)):
        learn(means, stream[index])
        tasks.append(features_of(means, stream[index]))
    test, labels = features_of(means, stream.test(None))
    task_of = {c: index for index, classes in enumerate(stream.classes) for c in classes}
    print(f"{'':38}{'all':>8}{'within':>8}{'task':>8}")
    print(f"{'class means':38}{said(means.scores(test), means.seen, labels, task_of)}", flush=True)
    for kind, lr, steps, competitors in CASES:
        head = train(tasks, kind, lr, steps, competitors)
        name = f"{kind} {lr:g}, {steps} steps a task, {competitors}"
        print(f"{name:38}{said(head(test), head.classes, labels, task_of)}", flush=True)


if __name__ == "__main__":
    main()
