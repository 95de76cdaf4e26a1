"""MiN, mixture of noise: each task learns a perturbation of the features that helps it, and all are mixed."""

from collections.abc import Mapping
from typing import Any, ClassVar

from cillab.backbones.noise import NoiseSlot, metered, sampling
from cillab.kit import (
    F, Fit, Float, HyperParams, Internal, Iterator, Linear, Literal, Method, NonNegativeInt, Overlay, PositiveFloat,
    PositiveInt, Progress, RandomFeatures, Ridge, Slots, Table, Task, Tensor, cross_entropy, double, final, fit,
    gathered, method, norms, revisit, torch,
)  # fmt: skip


class MiNParams(HyperParams):
    """Hyper-parameters of MiN. `variant` fills every disagreement that is not set by name."""

    variant: Literal["recentred", "paper", "released"] = "recentred"
    """Whose word counts where paper and released code differ: mixture, similarity_to, silent_start, first_session,
    tau, fit.schedule, fit_before, recentre, fit.lr. "recentred" is the paper's word with `recentre`, at the larger rate
    that it makes harmless. `epsilon` is not among them: it is "one" in all three, the paper's draws have to be asked
    for. A field given by name wins over its variant."""
    noise_dim: PositiveInt = 192
    """d2, the width that noise is generated in."""
    expansion: PositiveInt = 2048
    """D, the number of random features that the analytic classifier reads; its memory is 8 D^2 bytes. The paper has
    16384 (2.1 GB)."""
    gamma: PositiveFloat = 10.0
    """Ridge of the analytic classifier; the paper has 100, its code 500 for some data sets, with 16384 features."""
    augmented_passes: NonNegativeInt = 1
    """Augmented passes over a task in the analytic fit before noise is learnt; one clean pass follows afterwards. Paper
    and code have 3."""
    fit: Fit = Fit(epochs=3, batch_size=128, lr=0.05)
    """Noise learning: generators, auxiliary head and, if learned, mixture weights. The paper has ten epochs at 1e-3."""
    tau: PositiveFloat = 2.0
    """Temperature of the softmax over task similarities, equation (12)."""
    epsilon: Literal["one", "sampled"] = "one"
    """Noise is mu + sigma (as in the code), or mu + eps sigma with eps ~ N(0, I) drawn while training (as in the
    paper, which does not say what happens at test time: there eps is 1 in both cases)."""
    part: Literal["both", "mean", "sigma"] = "both"
    """Ablation: train both generators of a task, the mean part alone or the sigma part alone (the other stays 0)."""
    mixture: Literal["learned", "fixed", "average", "last"] = "learned"
    """Mixture weights: equation (12) then trained; equation (12) alone; 1/t for all; the newest generator alone."""
    similarity_to: Literal["current", "previous"] = "current"
    """Which prototype equation (11) compares with: the current task's, or (off by one, as in the code) the previous
    one's, while the current task gets the raw score 1."""
    silent_start: bool = False
    """Weights are zero while fewer than two prototypes exist, as in the code: generators 0 and 1 never learn."""
    first_session: bool = False
    """Also train a d x d branch per layer and all LayerNorms in the first task, as in the code (not in the paper)."""
    first_lr: PositiveFloat = 0.01
    """Learning rate of these branches and norms. The code has 1e-3 for everything, over ten epochs."""
    fit_before: Literal["always", "later"] = "always"
    """Fit the analytic head before noise learning in every task, or (as in the code) not in the first one."""
    recentre: bool = True
    """Ours, in neither paper nor code: take off every feature what later noise adds to all images alike, the sum over
    tasks of p_t after minus p_t before its noise was learnt. The sums of old tasks then fit today's features better."""
    init: Literal["uniform", "normal"] = "uniform"
    """Fixed maps W_down, W_up and the random features: U(+-1/sqrt(columns)) as in the code, or N(0, 1) as in the
    paper, which multiplies a perturbation by about sqrt(d d2) and does not train at lr 1e-3."""

    quick = {"noise_dim": 8, "expansion": 128, "gamma": 1.0}

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "recentred": {"recentre": True, "fit.lr": 0.05},
        "paper": {
            "mixture": "learned",
            "similarity_to": "current",
            "silent_start": False,
            "first_session": False,
            "tau": 2.0,
            "fit.schedule": "cosine",
            "fit_before": "always",
            "recentre": False,
            "fit.lr": 0.01,
        },
        "released": {
            "mixture": "fixed",
            "similarity_to": "previous",
            "silent_start": True,
            "first_session": True,
            "tau": 1.0,
            "fit.schedule": "constant",
            "fit_before": "later",
            "recentre": False,
            "fit.lr": 0.01,
        },
    }
    """Where the paper (arXiv:2509.16738 v3) and the released code (commit 292d883) disagree, each says what it does.
    Both have a rate of 1e-3 for ten epochs; ten times that, for three epochs, is ours. The third is the paper's word
    and what made noise pay on held-out training images (docs/results/cifar100.md)."""

    @classmethod
    def presets(cls, values):
        """What the variant says."""
        return cls.VARIANTS.get(values.get("variant", "recentred"), {})


@method(
    "min",
    paper="MiN, NeurIPS 2025, arXiv:2509.16738",
    evidence="reproduction (variant paper or released; the default adds recentring, ours)",
    family="neural collapse",
    when="Frozen features that are nearly good enough: small perturbations per task under a closed-form head.",
    ours="variant=recentred, its learning rate, gamma and expansion for small images",
    needs={"vit"},
    internals=(
        Internal("noise/weights", "f32 [L, t]", "mixing weights of each layer over the t generators"),
        Internal("noise/similarity", "f32 [t, t]", "cosines of the task prototypes"),
        Internal("noise/prototypes", "f32 [t, d]", "mean feature of each task"),
        Internal("noise/ratio", "f32 [L, t]", "norm of the noise over the norm of the signal, on images of the task"),
        Internal("noise/dead", "u8 [L, t]", "1 where a generator puts out nothing"),
    ),
)
@final
class MiN(Method[MiNParams]):
    """Mixture of noise: task-wise feature perturbations under an analytic classifier.

        noise of task i        eps_i = eps sigma_i + mu_i,  mu_i = phi^mu_i(r W_down),  sigma_i = phi^sigma_i(r W_down)
        after every block      r <- r + (sum_i w_i eps_i) W_up                                          [NoiseSlot]
        mixture weights        s_i = cos(p_t, p_i),   w = softmax(s / tau)                              (11), (12)
        classifier             logits = phi(z) W,  phi(z) = relu(z R),  W = ridge over all tasks        [Ridge]
        noise learning         min CE(phi W_aux + stopgrad(phi W), y) over generator t, W_aux (and w)   (14)
        recentred (ours)       z <- z - sum_{i > 1} (p_i after (14) - p_i before it)

    p_i is the mean feature of task i, z the feature of the noisy backbone. Source: MiN, NeurIPS 2025,
    arXiv:2509.16738 v3 (equation numbers) and the authors' code; where they disagree see `MiNParams.VARIANTS`. The code
    loses W_down when saving, this does not. Keeps 2 (d2^2 + d2) numbers per layer and task, 2 d d2 per layer and d D
    (fixed maps), D^2 + D K for learning, D K for classifying. One pass per image: the mixture is one matrix per layer.
    """

    former_parts = {"noise": "worn", "random_features": "expand", "ridge": "classifier"}

    def setup(self) -> None:
        """Silent noise behind every block, and a classifier of no image."""
        p, backbone, dim = self.params, self.backbone, self.backbone.token_dim

        def slot(layer: int) -> NoiseSlot:
            draws = self.draws("noise", layer)
            return NoiseSlot(dim, p.noise_dim, branch=p.first_session, init=p.init, generator=draws)

        self.worn = Slots.everywhere(backbone, "after", slot)
        self.norms = Overlay(backbone, *(norms(backbone) if p.first_session else ()))
        draws = self.draws("random features")
        self.expand = RandomFeatures(backbone.feature_dim, p.expansion, p.init, draws, backbone.device)
        self.classifier = Ridge(p.expansion, p.gamma, backbone.device, reads=self.expand)
        self.record = Table(backbone.device)  # prototypes, the common shift, noise ratios

    @property
    def noise(self) -> list[NoiseSlot]:
        """The noise slot of every block, first block first."""
        return [slot for slot in self.worn if isinstance(slot, NoiseSlot)]

    @property
    def dress(self):
        """Noise and norms."""
        return self.worn, self.norms

    def shape(self, h: Tensor) -> Tensor:
        """z: h less the common shift."""
        return h - self.record.tensors["shift"] if "shift" in self.record.tensors else h

    def learn(self, task: Task) -> Iterator[Progress]:
        """Fit the classifier, learn this task's noise against its residual (14), fit the classifier again."""
        p, first, record = self.params, not self.old, self.record.tensors
        if p.fit_before == "always" or not first:
            yield from self._fit_augmented(task)
        h, _ = yield from gathered(self, task, stage="prototype")
        before = self._mean(h)
        earlier = record.get("prototypes", before.new_zeros(0, len(before)))
        for slot in self.noise:
            slot.grow(self._mixture(torch.cat([earlier, before[None]])))
        yield from self._learn_noise(task, first)
        h, labels = yield from gathered(self, task, stage="prototype")
        after = self._mean(h)
        if p.recentre and not first:
            record["shift"] = record.get("shift", torch.zeros_like(after)) + after - before
            after = before  # where the mean is, once the shift is taken off
        record["prototypes"] = torch.cat([earlier, after[None]])
        if p.fit_before == "later" and first:
            yield from self._fit_augmented(task)
        self.classifier.add(self.shape(h), labels)
        self.classifier.solve()
        with torch.no_grad(), metered(self.worn) as meter:  # on the first images of the task
            self.embed(self.on_pixels(self.backbone.pixels(next(iter(task.batches(64)))[0])))
        record["ratio"] = meter.ratios().float().to(h.device)

    def _mean(self, h: Tensor) -> Float[Tensor, " feature"]:
        """p_t, under the network as it is now."""
        return (double(self.shape(h)).sum(dim=0) / len(h)).to(h)

    def _fit_augmented(self, task: Task) -> Iterator[Progress]:
        """The analytic fit on augmented images, under the network as it is now."""
        p, how = self.params, self.params.fit
        add = lambda h, labels: self.classifier.add(self.shape(h), labels)  # noqa: E731
        yield from revisit(
            self, task, add, p.augmented_passes, how, batch_size=how.batch_size, stage="augmented fit", draws="analytic"
        )
        self.classifier.solve()

    def _mixture(self, prototypes: Float[Tensor, "task feature"]) -> Float[Tensor, " task"]:
        """Equations (11) and (12), or the alternatives that `params` name."""
        p, count = self.params, len(prototypes)
        if p.mixture == "last":
            return F.one_hot(torch.tensor(count - 1), count).to(prototypes)
        if p.mixture == "average":
            return prototypes.new_full((count,), 1 / count)
        if p.silent_start and count <= 2:
            return prototypes.new_zeros(count)
        similarity = F.cosine_similarity(prototypes[-1], prototypes)
        if p.similarity_to == "previous" and count > 1:
            against_previous = F.cosine_similarity(prototypes[-2], prototypes[:-1])
            similarity = torch.cat([against_previous, prototypes.new_ones(1)])
        return (similarity / p.tau).softmax(dim=0)

    def _learn_noise(self, task: Task, first: bool) -> Iterator[Progress]:
        """Equation (14); the analytic logits are a constant of the loss."""
        p = self.params
        auxiliary = Linear(p.expansion, bias=first, device=self.backbone.device)
        auxiliary.grow(self.seen)

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self._residual(h, auxiliary), labels, self.seen, task.classes)

        with sampling(self.worn, self.draws("epsilon", task.index) if p.epsilon == "sampled" else None):
            yield from fit(self, task, self.trained(auxiliary, first), loss, p.fit, stage="noise")

    def _residual(self, h: Tensor, auxiliary: Linear) -> Float[Tensor, "image cls"]:
        """Phi W_aux + stopgrad(phi W)."""
        phi = self.expand(self.shape(h))
        return auxiliary(phi) + (phi @ self.classifier.weight).detach()

    def trained(self, auxiliary: Linear, first: bool) -> list[dict[str, Any]]:
        """Generator t and W_aux; the mixture weights if learned; in the first session branches and norms if asked."""
        p = self.params
        parameters, backbone = list(auxiliary.parameters()), list(self.norms.parameters())
        for slot in self.noise:
            parameters += [*slot.newest(p.part), *([slot.weights] if p.mixture == "learned" else [])]
            backbone += [*slot.branch.parameters()] if slot.branch is not None else []
        first_session = [{"params": backbone, "lr": p.first_lr}] if first and backbone else []
        return [{"params": parameters}, *first_session]

    def internals(self):
        """Mixture weights and noise-to-signal per layer and task, task prototypes and their cosines."""
        record = self.record.tensors
        if "ratio" not in record:
            return {}
        unit = F.normalize(record["prototypes"], dim=-1)
        return {
            "noise/weights": torch.stack([slot.weights.detach() for slot in self.noise]),
            "noise/similarity": unit @ unit.T,
            "noise/prototypes": record["prototypes"],
            "noise/ratio": record["ratio"],
            "noise/dead": (record["ratio"] == 0).to(torch.uint8),
        }
