"""CoOp, task by task: one soft prompt for all classes, trained on the newest task alone. It forgets."""

from cillab.backbones.text import TEMPLATES
from cillab.kit import (
    Competitors, Fit, Iterator, Method, Progress, PromptParams, Task, Tensor, TextHead, attention_for, cross_entropy,
    descend, final, gathered, make_prompt, method, shuffled, torch, viewed,
)  # fmt: skip


class CoOpParams(PromptParams):
    """Hyper-parameters of sequential CoOp."""

    competitors: Competitors = "seen"
    """Classes in the softmax: all seen ones ("seen") or those of the current task ("local")."""


@method(
    "coop",
    paper="CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134",
    evidence="reproduction, task by task",
    family="images and text",
    when="To see a prompt forget: it is cheap, and the newest task rewrites it.",
    needs={"clip", "class-names"},
    internals=("text/prototypes", "text/frozen"),
    learns_names=True,
)
@final
class CoOp(Method[CoOpParams]):
    """One soft prompt on frozen CLIP, trained on the newest task: it forgets.

        prompt_c = [SOS, P, name_c, ".", EOS],    g_c = E_t(prompt_c) / ||.||                               (1)
        P <- descent on CE(s cos(v, g_c), y),     v = E_v(x)                                                (2)

    Source: CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134, on a stream. Both encoders are frozen, so a task's features
    are computed once and (2) trains on them; augmentation is `views`. Keeps P; one forward pass per image.
    """

    former_parts = {"text": "classifier"}

    def setup(self) -> None:
        """The prompt, and no name yet."""
        self.prompt = make_prompt(self.backbone, self.params, self.seed)
        self.classifier = TextHead(self.backbone, TEMPLATES, self.prompt)

    def arrive(self, task: Task) -> None:
        """Equation (1)."""
        self.classifier.grow(task.classes, task.class_names)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2) on the features of `task`; a task of names alone only gets its prototypes."""
        p, how, text = self.params, self.params.text, self.classifier
        if not len(task):
            yield Progress("names", 0, 0)
            return
        h, labels = yield from gathered(self, task)
        more, theirs = yield from viewed(self, task, p.views, Fit())
        taken = torch.cat([h, more]), torch.cat([labels, theirs])
        count = len(taken[1])

        def loss(v: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(text(v, text.encode()), y, self.seen, task.classes, p.competitors)

        yield from descend(
            lambda epoch: shuffled(taken, how.batch_size, self.draws("text", task.index, epoch)),
            -(-count // how.batch_size), self.prompt.parameters(), loss, how, stage="text", total=how.epochs * count,
            under=lambda: attention_for(self.backbone),
        )  # fmt: skip
        text.refresh()

    def internals(self):
        """Prototypes now, and those of the hand template."""
        text = self.classifier
        return {"text/prototypes": text.prototypes, "text/frozen": text.frozen} if self.seen else {}
