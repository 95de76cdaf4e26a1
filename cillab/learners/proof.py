"""PROOF: projections grow on both sides of CLIP, and an image is compared with names and prototypes in its company."""

from cillab.kit import (
    Exemplars, F, Fit, Float, Head, HyperParams, Internal, Iterator, Literal, Method, NonNegativeInt, PositiveInt,
    Progress, Projections, Prototypes, SetAttention, Task, Tensor, TextHead, columns_of, contrast, final, fit_features,
    gathered, keep_exemplars, method, torch, viewed,
)  # fmt: skip


class ProofParams(HyperParams):
    """Hyper-parameters of PROOF."""

    memory: PositiveInt = 2000
    """Images kept in all; every class seen gets the same share of them."""
    contexts: PositiveInt = 3
    """Context vectors that every task adds to the set."""
    start: Literal["identity", "random"] = "identity"
    """The first projections: CLIP's own space, or a drawn one for every task, as in the released code."""
    template: str = "a photo of a {}."
    """The sentence around a name."""
    views: NonNegativeInt = 1
    """Augmented passes over a task and the memory whose features train beside the clean ones."""
    fit: Fit = Fit(epochs=5, batch_size=64, lr=0.001, optimiser="adam", weight_decay=0.0)
    """The newest projections and contexts, and the attention."""

    quick = {"memory": 24}


@method(
    "proof",
    paper="Zhou et al., PROOF, TPAMI 2025, arXiv:2305.19270",
    evidence="reproduction",
    family="images and text",
    when="CLIP, and some images may be kept: names and class means answer together.",
    known="20 images a class, LAION-400M ViT-B/16, seed 1993: CIFAR-100 B0 Inc10 A_avg 86.77, A_last 79.11; ImageNet-R "
    "B0 Inc20 84.19/78.50; CUB B0 Inc20 84.87/79.86 (authors' logs).",
    ours="projections start as the identity, attention as no change; logits are scaled cosines; an image is in company "
    "of no other image; no dropout; Adam",
    needs={"clip", "class-names"},
    exemplars=True,
    internals=(Internal("stored", "i64 [K]", "stored training images of each class", "images"),),
)
@final
class Proof(Method[ProofParams]):
    """Projections that grow on both sides of CLIP, and attention among an image, the names and the class means.

        z = P_i(h),  w_c = P_t(t_c),  p_c = P_i(mean of h over c),    P(x) = sum_m (A_m x + b_m), of length 1   (1)
        [z', w', p'] = attention over [z, w_1 ... w_K, p_1 ... p_K, contexts], image by image    [SetAttention]  (2)
        logit_c = s (cos(z, w_c) + cos(z', w'_c) + cos(z', p'_c))                                               (3)
        min  CE(s cos(z', w')) + CE(s cos(z', p')) + contrast(s cos(z, w))  over classes seen, x new or stored  (4)

    h and t_c are CLIP's unit vectors; the newest A_m, b_m and contexts are trained, and the attention. contrast is the
    mean of both directions, in which images of one class are no negatives of each other. The stored images of a class
    are herded. Source: Zhou et al., TPAMI 2025, arXiv:2305.19270. Deviations: the released code averages w' and p' over
    the test batch, and goes on training the old A_m, b_m of the text's side, which is the newest at a higher rate since
    only the sum counts. Keeps `memory` images, 8 D^2 + 3 D K numbers and 3 D per task; one pass per image.
    """

    def setup(self) -> None:
        """CLIP as it is, no name, no image."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.of_images, self.of_names = (Projections(dim, device, identity=p.start == "identity") for _ in range(2))
        self.attention = SetAttention(dim, device, self.draws("attention"))
        self.text, self.means, self.stored = (
            TextHead(self.backbone, [p.template]),
            Prototypes(dim, device),
            Exemplars(device),
        )
        self.classifier = self._answer

    def arrive(self, task: Task) -> None:
        """A name, a mean, a projection on either side and contexts."""
        drawn = self.params.start == "random"
        self.text.grow(task.classes, task.class_names)
        self.means.grow(task.classes)
        self.of_images.grow(self.draws("images", task.index) if drawn else None)
        self.of_names.grow(self.draws("names", task.index) if drawn else None)
        self.attention.grow(self.params.contexts, self.draws("contexts", task.index))

    def shape(self, h: Tensor) -> Tensor:
        """The z of (1)."""
        return F.normalize(self.of_images(F.normalize(h, dim=-1)), dim=-1)

    def head(self) -> Head:
        """The projected names."""
        return Head(F.normalize(self.of_names(self.text.prototypes).detach(), dim=-1), None)

    def terms(self, z: Float[Tensor, "image feature"]) -> Float[Tensor, "3 image cls"]:
        """The three cosines of (3), times s."""
        names, means = self.of_names(self.text.prototypes), self.of_images(self.means.means(like=z))
        names, means = F.normalize(names, dim=-1), F.normalize(means, dim=-1)
        became, rows = self.attention(z, torch.cat([names, means]))
        near = torch.einsum("nd,nrd->nr", F.normalize(became, dim=-1), F.normalize(rows, dim=-1))
        return self.text.scale * torch.stack([z @ names.T, *near.tensor_split(2, dim=1)])

    def _answer(self, z: Tensor) -> Tensor:
        return torch.cat([self.terms(some).sum(dim=0) for some in z.split(64)])

    def learn(self, task: Task) -> Iterator[Progress]:
        """(4) on features, then the images to keep."""
        p = self.params
        h, labels = yield from gathered(self, task)
        self.means.add(F.normalize(h, dim=-1), labels)
        both = self.stored.beside(task)
        clean = yield from gathered(self, both, stage="memory")
        taken = yield from viewed(self, both, clean, p.views, p.fit)

        def loss(h: Tensor, y: Tensor) -> Tensor:
            columns = columns_of(y, self.seen)
            plain, names, means = self.terms(self.shape(h))
            return F.cross_entropy(names, columns) + F.cross_entropy(means, columns) + contrast(plain, columns)

        trained = [self.of_images.newest, self.of_names.newest, *self.attention.parameters()]
        yield from fit_features(self, task, taken, trained, loss, p.fit, stage="fusion")
        yield from keep_exemplars(self, self.stored, task, max(1, p.memory // len(self.seen)))

    def internals(self):
        """Number of stored images of each class."""
        return {"stored": self.stored.counts(self.seen)} if self.seen else {}
