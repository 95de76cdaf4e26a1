r"""What other values of a method's hyper-parameters give on held-out training images: the test split stays shut.

    python benchmarks/held_out.py ease --tasks 4 --try fit.lr=0.1 --try fit.epochs=60 --try alpha=0
    python benchmarks/held_out.py pronc --tasks 2 --try "lr=0.01 epochs=50"

A line for class means (`simplecil`), one for the method with its defaults, one for every `--try`. `all` is accuracy on
all classes of the tasks that were learnt, `within` on those of the image's task, `task` how often the answer is a
class of the right task. Then comes the accuracy on each task at the end and, in brackets, when it was new. One class
order, ten classes a task; a line takes as long as the method trains.
"""

import argparse
from typing import Any

import cillab
from cillab.core.contract import Backbone, Learner
from cillab.core.errors import CillabError
from cillab.lab.spec import parse_setting
from cillab.learners.checks import learn
from cillab.streams.images import ImageSet
from local_heads import said

import torch
from torch import Tensor


def logits_of(learner: Learner[Any], images: ImageSet) -> tuple[Tensor, Tensor]:
    """Logits and labels of all images."""
    with torch.no_grad():
        found = [(learner.logits(pixels).float(), labels) for pixels, labels in images.batches(128)]
    return torch.cat([logits for logits, _ in found]), torch.cat([labels for _, labels in found])


def right(learner: Learner[Any], images: ImageSet) -> float:
    """Accuracy over the classes that were seen, in percent."""
    logits, labels = logits_of(learner, images)
    return 100 * float((torch.tensor(learner.seen)[logits.argmax(dim=1)] == labels).double().mean())


def made(name: str, case: str, backbone: Backbone, seed: int) -> Learner[Any]:
    """The learner called `name`, with the values of `case`."""
    return cillab.learner(name, backbone, seed=seed, **dict(parse_setting(text) for text in case.split()))


def main() -> None:
    """Learn the tasks once per line."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("learner")
    ask.add_argument("--try", dest="cases", action="append", default=[], help='values that differ: "lr=0.01 epochs=50"')
    ask.add_argument("--tasks", type=int, help="how many of the tasks; default all")
    ask.add_argument("--data", default="held-out:shields")
    ask.add_argument("--backbone", default="bundled:vit")
    ask.add_argument("--train", type=int, default=30, help="training images a class")
    ask.add_argument("--test", type=int, default=20, help="test images a class")
    ask.add_argument("--seed", type=int, default=1993)
    given = ask.parse_args()
    backbone = cillab.backbone(given.backbone, precision="fp32")
    stream = cillab.stream(
        given.data, split="B0-Inc10", seed=given.seed, train_per_class=given.train, test_per_class=given.test
    )[: given.tasks].on(backbone)
    cases = (("simplecil", ""), (given.learner, ""), *((given.learner, case) for case in given.cases))
    try:  # all of them before the first learns
        lines = [(f"{name} {case}", made(name, case, backbone, given.seed)) for name, case in cases]
    except CillabError as error:
        ask.error(str(error))
    task_of = {c: index for index, classes in enumerate(stream.classes) for c in classes}
    print(f"{'':44}{'all':>8}{'within':>8}{'task':>8}   by task, at the end (when new)")
    for title, learner in lines:
        new = []
        for index in range(len(stream)):
            learn(learner, stream[index])
            new.append(right(learner, stream.test(index)))
        logits, labels = logits_of(learner, stream.test())
        ends = (f"{right(learner, stream.test(t)):.0f} ({was:.0f})" for t, was in enumerate(new))
        print(f"{title:44}{said(logits, learner.seen, labels, task_of)}   {', '.join(ends)}", flush=True)


if __name__ == "__main__":
    main()
