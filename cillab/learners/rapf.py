"""RAPF: a linear map on CLIP's image features, held apart where names are close, and fused with the former one."""

from cillab.kit import (
    F, Fit, Float, GaussianMemory, HyperParams, Int64, Iterator, LinearMap, Literal, Method, NonNegativeFloat,
    NonNegativeInt, PositiveFloat, Progress, Task, Tensor, TextHead, cross_entropy, double, final, fit_features,
    gathered, method, torch, viewed,
)  # fmt: skip


class RAPFParams(HyperParams):
    """Hyper-parameters of RAPF."""

    start: Literal["identity", "random"] = "identity"
    """The first map: CLIP's own space, or a drawn one, as in the released code, which gives that space up at once."""
    mix: float = 0.6
    """Least share of the new map in every direction of the old one; 1 takes the new map as it is."""
    near: PositiveFloat = 0.55
    """Distance of two names' unit vectors below which the classes are held apart."""
    apart: NonNegativeFloat = 1.0
    """Weight of holding them apart."""
    replayed: NonNegativeInt = 2
    """Old classes drawn per step."""
    each: NonNegativeInt = 20
    """Features drawn of each of them."""
    views: NonNegativeInt = 1
    """Augmented passes over a task whose features train the map beside the clean ones."""
    template: str = "a good photo of a {}."
    """The sentence around a name."""
    fit: Fit = Fit(
        epochs=15, batch_size=100, lr=0.001, optimiser="adam", weight_decay=0.0, schedule="multistep",
        milestones=(4 / 15, 10 / 15),
    )  # fmt: skip
    """The map; the rate is divided by ten after epochs 4 and 10."""

    quick = {"each": 4}


@method(
    "rapf",
    paper="Huang et al., RAPF, ECCV 2024, arXiv:2407.14143",
    evidence="reproduction",
    family="images and text",
    when="CLIP with one matrix to train: fast, no image kept, old classes stand as Gaussians.",
    known="CIFAR-100 B0 Inc10, OpenAI ViT-B/16: A_avg 86.19, A_last 79.04 (paper); 85.97/78.85 (LibContinual).",
    ours="the map starts as the identity; features of augmented views are made once, not in every epoch; Gaussians of "
    "unit features",
    needs={"clip", "class-names"},
)
@final
class RAPF(Method[RAPFParams]):
    """One linear map on CLIP's images: names that are close are held apart, and the map moves where it has to.

        v = A h / ||.||,  h = E_v(x) / ||.||,   logit_c = s cos(v, t_c),  t_c frozen                              (1)
        min  CE over all classes seen, x new or drawn ~ N(mu_c, S_c) of old classes
             + apart * mean of max(0, cos(A h, t_n) - cos(A h, t_o) + 0.1),  h ~ N(mu_o, S_o),  |t_n - t_o| < near  (2)
        A_old = U S V^T,   P = U^T A_new,  Q = S V^T,   A <- U (m P + (1 - m) Q),
        m = min(1, |P - Q| / max |P - Q| + mix)                                                                   (3)

    n a new class and o an old one. Source: RAPF, Huang et al., ECCV 2024, arXiv:2407.14143. With mix = 1 (3) keeps the
    new map: a plain adapter. Both encoders are frozen. Keeps D^2 numbers for A, 2 D per class and
    D + D^2 more for learning; one pass per image.
    """

    def setup(self) -> None:
        """A, no name, no Gaussian."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        drawn = self.draws("map") if self.params.start == "random" else None
        self.map = LinearMap(dim, device=device, draws=drawn)
        self.classifier = TextHead(self.backbone, [self.params.template])
        self.memory = GaussianMemory(dim, "full", device)

    def shape(self, h: Tensor) -> Tensor:
        """The v of (1)."""
        return F.normalize(self.map(F.normalize(h, dim=-1)), dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(2) on features, (3), then Gaussians of the new classes."""
        p = self.params
        h, labels = yield from gathered(self, task)
        views, truth = yield from viewed(self, task, (h, labels), p.views, p.fit)
        taken = F.normalize(views, dim=-1), truth
        old = tuple(c for c in self.old if c not in task.classes)
        draws, before = self.draws("drawn", task.index), self.map.matrix.clone()
        pairs, beside = self._near(task, old)

        def loss(v: Tensor, truth: Tensor) -> Tensor:
            if old and p.replayed and p.each:
                some = torch.randperm(len(old), generator=draws)[: p.replayed].tolist()
                drawn, owners = self.memory.sample(p.each, draws, tuple(old[i] for i in some))
                v, truth = torch.cat([v, drawn]), torch.cat([truth, owners])
            value = cross_entropy(self.classifier(self.map(v)), truth, self.seen, self.seen)
            return value + p.apart * self._held_apart(pairs, beside, draws) if beside and p.apart and p.each else value

        yield from fit_features(self, task, taken, self.map.parameters(), loss, p.fit, stage="map")
        if self.old:
            self.map.put("matrix", fused(before, self.map.matrix.detach(), p.mix))
        self.memory.add(F.normalize(h, dim=-1), labels)

    def _near(self, task: Task, old: tuple[int, ...]) -> tuple[Int64[Tensor, "pair 3"], tuple[int, ...]]:
        """Old classes to whose names a new one is near; of each pair its place there, and both columns."""
        text, here = self.classifier, [c for c in task.classes if c not in self.old]
        gaps = torch.cdist(text.prototypes[text.columns(old)], text.prototypes[text.columns(here)])
        o, n = (gaps < self.params.near).nonzero(as_tuple=True)
        columns, place = text.columns(old)[o].unique(return_inverse=True)
        pairs = torch.stack([place, columns[place], text.columns(here)[n]], dim=1)
        return pairs, tuple(self.seen[i] for i in columns.tolist())

    def _held_apart(
        self, pairs: Int64[Tensor, "pair 3"], beside: tuple[int, ...], draws: torch.Generator
    ) -> Float[Tensor, ""]:
        """The second line of (2): twice `each` features of the old class of every pair."""
        drawn, _ = self.memory.sample(2 * self.params.each, draws, beside)
        cosines = F.normalize(self.map(drawn), dim=-1) @ self.classifier.prototypes.T
        of_class, (place, o, n) = cosines.unflatten(0, (len(beside), -1)), pairs.unbind(dim=1)
        return F.relu(of_class[place, :, n] - of_class[place, :, o] + 0.1).mean()


def fused(
    old: Float[Tensor, "out feature"], new: Float[Tensor, "out feature"], mix: float
) -> Float[Tensor, "out feature"]:
    """Equation (3): in the singular directions of the old map, the more an entry changed the more it is taken over."""
    u, s, vt = torch.linalg.svd(double(old), full_matrices=False)
    p, q = u.T @ double(new), s[:, None] * vt
    away = (p - q).abs()
    most = away.max()
    if not float(most):
        return old
    share = (away / most + mix).clamp(max=1)
    return (u @ (share * p + (1 - share) * q)).to(old)
