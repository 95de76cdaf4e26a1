"""CoOp, task by task: one soft prompt for all classes, trained on the newest task alone. It forgets."""

from cillab.backbones.text import TEMPLATES
from cillab.kit import (
    Competitors, Iterator, Method, Progress, PromptParams, Task, Tensor, TextHead, cross_entropy, final,
    fit_features, gathered, make_prompt, method, viewed,
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
    ours="AdamW in place of SGD; features of augmented views are made once",
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
    are computed once and (2) trains on them; augmentation is `views`. Keeps P and 2 K d
    numbers; one forward pass per image.
    """

    former_parts = {"text": "classifier"}

    def setup(self) -> None:
        """The prompt, and no name yet."""
        self.prompt = make_prompt(self.backbone, self.params, self.seed)
        self.classifier = TextHead(self.backbone, TEMPLATES, self.prompt)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2) on the features of `task`."""
        p, text = self.params, self.classifier
        clean = yield from gathered(self, task)
        taken = yield from viewed(self, task, clean, p.views, p.text)

        def loss(v: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(text(v, text.encode()), y, self.seen, task.classes, p.competitors)

        yield from fit_features(self, task, taken, self.prompt.parameters(), loss, p.text, stage="text", order="text")
        text.refresh()

    def internals(self):
        """Prototypes now, and those of the hand template."""
        text = self.classifier
        return {"text/prototypes": text.prototypes, "text/frozen": text.frozen} if self.seen else {}
