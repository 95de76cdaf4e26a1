"""NCM-ETF: the simplex nearest to the class means of a frozen backbone, as the classifier. Nothing is trained."""

from cillab.kit import (
    F, HyperParams, Iterator, Method, PositiveFloat, Progress, Prototypes, Simplex, Task, Tensor, final, gathered,
    method,
)  # fmt: skip


class NCMETFParams(HyperParams):
    """Hyper-parameters of NCM-ETF."""

    hold: PositiveFloat = 1.0
    """Weight of an old class against a new one when the simplex is placed: large values keep old vertices."""


@method(
    "ncm-etf",
    paper="ours, after Papyan, Han & Donoho, PNAS 2020, doi:10.1073/pnas.2015509117",
    evidence="ours",
    family="neural collapse",
    when="What a perfect simplex costs where features have not collapsed: the bare head, beside simplecil and ncptm.",
    ours="everything: the head of ncptm without its training",
    simplex=True,
    internals=("anchors/rows",),
)
@final
class NCMETF(Method[NCMETFParams]):
    """Class means replaced by the nearest simplex.

        mu_c = mean of f(x) over class c,   mu_G = mean of mu_c,   z = (f(x) - mu_G) / ||.||                (1)
        M = argmax over simplex ETFs of sum_c w_c <m_c, (mu_c - mu_G) / ||.||>                  [Simplex]   (2)
        logit_c = <m_c, z>                                                                                  (3)

    With collapsed features M are the means and nothing is lost; otherwise the loss against the nearest class mean says
    how far features are from collapse. The simplex is placed anew in every task and depends on no order of classes.
    Keeps K D numbers for means and K D for M; one pass per image.
    """

    def setup(self) -> None:
        """No class yet."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.means, self.classifier = Prototypes(dim, device), Simplex(dim, device)

    def arrive(self, task: Task) -> None:
        """Room for the classes, as long as a simplex of so many vertices exists."""
        self.classifier.grow(task.classes)
        self.means.grow(task.classes)

    def shape(self, h: Tensor) -> Tensor:
        """The z of (1); before any task the raw feature."""
        centre = self.classifier.kept.get("centre")
        return h if centre is None else F.normalize(h - centre, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1) and (2)."""
        h, labels = yield from gathered(self, task)
        self.means.add(h, labels)
        mu, kept = self.means.means(), self.classifier.kept
        kept["centre"] = mu.mean(dim=0).to(h)
        self.classifier.place(mu - mu.mean(dim=0), old=len(self.old), hold=self.params.hold)

    def internals(self):
        """M."""
        return {"anchors/rows": self.classifier.vertices} if self.seen else {}
