"""FSA: the first session adapts the backbone, then it is frozen under linear discriminant analysis."""

from cillab.kit import (
    LDA, Affine, Field, Fit, HyperParams, Iterator, Literal, Method, NonNegativeFloat, Overlay, Progress, Task, final,
    first_session, gathered, method,
)  # fmt: skip


class FSAParams(HyperParams):
    """Hyper-parameters of first-session adaptation."""

    body: Literal["film", "ssf", "full"] = "film"
    """What the first session trains: a scale and a shift per channel of the normalisation layers, of every layer, or
    all weights (then at a hundredth of the rate, if no rate is given)."""
    first: Fit = Fit(epochs=20, lr=0.01, batch_size=48)
    """The first session, under a linear head that is thrown away."""
    ridge: NonNegativeFloat = 1.0
    """Added to every variance, as in the paper, whose features have larger ones; those of the bundled ViT vary by 0.3
    within a class."""
    shrinkage: float | None = Field(default=0.0, ge=0, le=1)
    """Share of the covariance that becomes a multiple of the identity; None takes it by the oracle formula (OAS)."""

    quick = {"first.epochs": 2}

    @classmethod
    def presets(cls, values):
        """All weights take smaller steps."""
        return {"first.lr": 1e-4} if values.get("body") == "full" else {}


@method(
    "fsa",
    paper="Panos et al., First Session Adaptation, ICCV 2023, arXiv:2303.13199",
    evidence="reproduction",
    family="closed form",
    when="The first task is large and looks like the later ones: adapt once, cheaply, then never forget.",
    ours="on ViTs the affine maps of the layer norms stand for FiLM",
)
@final
class FSA(Method[FSAParams]):
    """A body adapted in the first session, and LDA in all of them.

        theta  <-  CE of a linear head over the classes of the first task, then frozen            [first_session] (1)
        FiLM       y <- gamma * y + beta after every normalisation, gamma = 1 and beta = 0 at the start  [Affine] (2)
        logit_c = h . w_c - mu_c . w_c / 2,   w_c = (S + ridge I)^-1 mu_c,   h = f_theta(x)                 [LDA] (3)

    S is the covariance within classes of all images. After (1) nothing depends on order, increments or batches. Source:
    Panos et al., ICCV 2023, arXiv:2303.13199. Keeps theta, d^2 + 2 K d numbers; one forward pass per image.
    """

    def setup(self) -> None:
        """A body that changes nothing yet, no class."""
        p, backbone = self.params, self.backbone
        match p.body:
            case "film":
                self.worn = Affine(backbone, "norms", 0.0, generator=self.draws("affine"))
            case "ssf":
                self.worn = Affine(backbone, generator=self.draws("affine"))
            case "full":
                self.worn = Overlay(backbone, "*")
        self.classifier = LDA(backbone.feature_dim, backbone.device, shrinkage=p.shrinkage, ridge=p.ridge)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1) in the first session, (3) in every one."""
        if not self.old:
            yield from first_session(self, task, self.worn.parameters(), self.params.first, head="linear")
        self.classifier.add(*(yield from gathered(self, task, stage="statistics")))
        self.classifier.solve()
