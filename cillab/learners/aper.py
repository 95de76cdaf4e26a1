"""APER: the first task adapts the backbone, then class means in the features of both, the adapted and the original."""

from cillab.kit import (
    Affine, Fit, HyperParams, Iterator, Literal, Method, Overlay, PositiveFloat, PositiveInt, Progress, Prototypes,
    Task, adapters, final, first_session, gathered, method, prompts, torch,
)  # fmt: skip


class APERParams(HyperParams):
    """Hyper-parameters of APER."""

    variant: Literal["adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune"] = "adapter"
    """What the first task trains: adapters beside the MLPs, a scale and a shift per channel, prompts at the first
    block, prompts at every block, or all weights (then 6 epochs, batch 128 and weight decay 0.05, PILOT's, if not
    given)."""
    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    scale: PositiveFloat = 0.1
    """Factor on an adapter's output."""
    length: PositiveInt = 5
    """Tokens of a prompt; PILOT has 30 where it is not CIFAR-100."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.01)
    """The first session."""

    quick = {"bottleneck": 4, "length": 2}

    @classmethod
    def presets(cls, values):
        """All weights take fewer steps of another size."""
        ours = {"fit.epochs": 6, "fit.batch_size": 128, "fit.weight_decay": 0.05}
        return ours if values.get("variant") == "finetune" else {}


@method(
    "aper",
    paper="Zhou et al., IJCV 2024, arXiv:2303.07338",
    evidence="reproduction",
    family="prompts and adapters",
    when="One session of adaptation, then nothing is trained: the baseline that adapters and prompts have to beat.",
    known="CIFAR-100 Inc5, ViT-B/16 in21k, seed 1993, A_avg/A_last: adapter 90.61/85.14, ssf 87.85/82.01, vpt-deep "
    "88.91/82.65, vpt-shallow 88.23/81.80, finetune 87.56/81.27 (authors' logs).",
    ours="no dropout inside adapters; prompts are drawn from N(0, 0.02^2), the authors' start at zero",
    needs={"vit"},
)
@final
class APER(Method[APERParams]):
    """Class means in the features of two networks, one adapted to the first task and one as it was.

        theta  <-  CE of a cosine head over the first task's classes; that head is thrown away     [first_session] (1)
        h      =   [f(x), f_theta(x)]                                                                              (2)
        logit_c = cos(h, mean of h over class c)                                                      [Prototypes] (3)

    Source: APER (ADAM in its first version), Zhou et al., IJCV 2024, arXiv:2303.07338. Keeps theta and 2 D numbers per
    class; two passes per image.
    """

    def setup(self) -> None:
        """What the variant names, changing nothing or little yet; no class."""
        p, backbone = self.params, self.backbone
        match p.variant:
            case "adapter":
                self.worn = adapters(self, p.bottleneck, 0, scale=p.scale)
            case "ssf":
                self.worn = Affine(backbone, generator=self.draws("affine"))
            case "vpt-shallow":
                self.worn = prompts(self, p.length, blocks=1)
            case "vpt-deep":
                self.worn = prompts(self, p.length)
            case "finetune":
                self.worn = Overlay(backbone, "*")
        self.classifier = Prototypes(2 * backbone.feature_dim, backbone.device)

    def embed(self, run):
        """Equation (2)."""
        return torch.cat([run(), run(self.worn)], dim=1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1) in the first session, (3) in every one."""
        if not self.old:
            yield from first_session(
                self, task, self.worn.parameters(), self.params.fit, under=self.worn, stage="adapter"
            )
        self.classifier.add(*(yield from gathered(self, task, stage="prototypes")))
