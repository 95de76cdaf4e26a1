"""CPE-CLIP: one set of prompts for both towers of CLIP, which moves less the more classes it already serves."""

from cillab.kit import (
    F, Fit, Float, HyperParams, Iterator, LinearMap, Method, PositiveInt, Progress, Slots, Task, Tensor, TextHead,
    TextPrompt, TextTower, TokenSlot, cross_entropy, final, fit, method, torch,
)  # fmt: skip


class CPEClipParams(HyperParams):
    """Hyper-parameters of CPE-CLIP."""

    length: PositiveInt = 2
    """Prompt vectors of a layer."""
    layers: PositiveInt = 12
    """Layers of both towers with vectors of their own; at most as many as the shallower tower has."""
    balance: bool = True
    """Multiply gradients by the share of the task's classes among all seen; without an effect under Adam."""
    fit: Fit = Fit(epochs=5, batch_size=32, lr=0.01, weight_decay=1e-5)
    """Prompts and bridge on a task's images."""

    quick = {"layers": 2}


@final
class Translated(TokenSlot):
    """The prompt of one layer of the text tower, through the bridge, beside those of earlier layers."""

    keeps = True

    def __init__(self, prompt: TextPrompt, layer: int, bridge: LinearMap) -> None:
        super().__init__()
        self._of = (prompt, layer, bridge)  # in a tuple: parts of the learner, not of this one

    def tokens(self) -> Float[Tensor, "token dim"]:
        """B P_l + b."""
        prompt, layer, bridge = self._of
        return bridge(prompt.deep[layer - 1] if layer else prompt.context)

    def __len__(self) -> int:
        return len(self._of[0].context)

    def forward(self, tokens: Tensor) -> Float[Tensor, "image longer dim"]:
        """The tokens of the image and of earlier layers, then the prompt."""
        return torch.cat([tokens, self.tokens().expand(len(tokens), -1, -1).to(tokens.dtype)], dim=1)

    def circumstances(self) -> dict[str, Tensor]:
        """The prompt as it is now."""
        return {"tokens": self.tokens().detach()}


@method(
    "cpe-clip",
    paper="D'Alessandro et al., CPE-CLIP, ICCV Workshops 2023, arXiv:2303.04751",
    evidence="reproduction of the released code",
    family="images and text",
    when="CLIP and few images of each new class: both towers are prompted, and late classes hardly move the prompts.",
    ours="the first image prompts enter behind the tower's first norm; one constant batch size; a cosine to zero",
    needs={"clip", "class-names", "vit"},
    internals=("text/prototypes", "text/frozen"),
    learns_names=True,
)
@final
class CPEClip(Method[CPEClipParams]):
    """Prompts of the text tower that the image tower reads through one linear map, with slower and slower steps.

        g_c = E_t([SOS, P_1, name_c, ".", EOS]) / ||.||,   P_l in place of what P_{l-1} became at layer l         (1)
        f   = E_v([x, B P_1 + b]) / ||.||,                 B P_l + b beside what earlier ones became at layer l   (2)
        min CE(s cos(f, g), y) over the classes of the task;   gradient of P, B, b times |C_t| / |C_1 + ... + C_t|  (3)

    Source: D'Alessandro et al., ICCV Workshops 2023, arXiv:2303.04751, and the released code, whose schedule counts
    epochs as steps: its warm-up of 50 steps to a rate of 0.1 ends at 0.009 after five epochs. Holds 2 K d numbers,
    those of P, and B, b; one pass per image.
    """

    def setup(self) -> None:
        """Drawn prompts and bridge, no name."""
        p, backbone = self.params, self.backbone
        tower = TextTower(backbone)
        layers = min(p.layers, tower.depth, backbone.depth)
        self.prompt = TextPrompt(backbone, p.length, layers=layers, generator=self.draws("prompt"))
        self.bridge = LinearMap(
            tower.width, backbone.token_dim, bias=True, device=backbone.device, draws=self.draws("bridge")
        )
        self.worn = Slots.everywhere(backbone, "before", lambda i: Translated(self.prompt, i, self.bridge), layers)
        self.classifier = TextHead(backbone, ["a photo of a {}."], self.prompt)

    def shape(self, h: Tensor) -> Tensor:
        """The f of (2)."""
        return F.normalize(h, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (3)."""
        text, trained = self.classifier, [*self.prompt.parameters(), *self.bridge.parameters()]
        share = len(task.classes) / len(self.seen) if self.params.balance else 1.0

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(text(h, text.encode()), labels, self.seen, task.classes, "local")

        def slower() -> None:
            for parameter in trained:
                if parameter.grad is not None:
                    parameter.grad.mul_(share)

        yield from fit(self, task, trained, loss, self.params.fit, stage="prompts", before_step=slower)
        text.refresh()

    def internals(self):
        """Prototypes now, and those of the hand template."""
        text = self.classifier
        return {"text/prototypes": text.prototypes, "text/frozen": text.frozen} if self.seen else {}
