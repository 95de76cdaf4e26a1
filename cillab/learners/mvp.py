"""MVP: prompts that find an image by its frozen feature, each with a mask over classes, for streams without borders."""

from cillab.kit import (
    Classifier, F, Field, Fit, Float, Head, Int64, Internal, Iterator, Linear, Method, NonNegativeFloat, PositiveFloat,
    PositiveInt, PrefixParams, Progress, PromptPool, Task, Tensor, attention_for, columns_of, descend, empty, final,
    method, nn, opposed, prefixes, torch, views, with_new,
)  # fmt: skip


class MVPParams(PrefixParams):
    """Hyper-parameters of MVP."""

    pool: PositiveInt = 10
    """M, prompts in the pool, from the first image on."""
    expert: PositiveInt = 20
    """Keys and values of a prompt of the pool, in each of its blocks."""
    repeats: PositiveInt = 3
    """Steps on every batch of the stream, each on fresh views of it; more epochs see the whole task again."""
    masks: bool = True
    """Multiply logits by the mask of the chosen prompt."""
    margin: PositiveFloat = 0.5
    """Added to the distance of a feature and the row of its class, by which the feature is divided."""
    focus: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that counts more where an image pulls against its batch; 0 is plain cross-entropy."""
    gamma: NonNegativeFloat = 1.0
    """Exponent of that weight; public copies of the code have 2."""
    contrast: NonNegativeFloat = 1.0
    """Weight of the loss of the keys."""
    fit: Fit = Fit(epochs=1, batch_size=64, lr=0.005, optimiser="adam", weight_decay=0.0, schedule="constant")
    """Prompts, keys, masks and head on the images as they come."""

    quick = {**PrefixParams.quick, "pool": 3, "fit.lr": 0.02}


@method(
    "mvp",
    paper="Moon et al., MVP, ICCV 2023, arXiv:2308.09303",
    evidence="reproduction of the released code",
    family="prompts and adapters",
    when="A stream that is seen once and whose tasks blur into each other, without stored images.",
    known="Si-Blurry, CIFAR-100, five tasks, DeiT-S trained without the classes: A_AUC 56.3 (GACL's table).",
    ours="prompts are prefixes; the pool has `pool` prompts whatever the tasks; Adam begins anew with every task",
    needs={"vit"},
    internals=(
        "prompts/keys",
        "prompts/chosen",
        Internal("mvp/masks", "f32 [M, K]", "factor of a logit under a prompt"),
    ),
)
@final
class MVP(Method[MVPParams]):
    """One pass over a blurry stream: a prompt of an image's own choice, with a mask over the classes.

        j(x) = argmin_m (1 - cos(q, k_m)) (n_m + 1),   q = f(x) without prompts, n_m how often m was chosen   (1)
        h = f(x) with a shared prefix and that of j(x),   logit_c = 2 sigmoid(a_jc) (<w_c, h> + b_c)            (2)
        CE_x = cross-entropy of (2) for h / (1 - cos(w_y, h) + margin),   over all classes seen                (3)
        min  mean of ((1 - focus) + focus (1 - cos(-h, G_y))^gamma) CE_x - contrast * log(R / (R + D))         (4)
        G_c  = mean over the batch of (p_c - [y = c]) 2 sigmoid(a_jc) h: the gradient of the batch's CE for w_c,
        D = mean of exp((1 - cos(q, k_j)) / (n_j + 1)),   R = mean over m of exp((1 - cos(k_j, k_m)) / (n_j + 1))

    Source: Moon et al., ICCV 2023, arXiv:2308.09303, and the released code, which weighs the mean of the batch in (4),
    not an image, and divides every distance in D by the counts of all images. Keeps M (d + K) numbers, 2 L D a block
    and prompt, and the head; two passes per image.
    """

    def setup(self) -> None:
        """The shared prefix, the whole pool, which shows q beside h, masks and a head without columns."""
        p, backbone = self.params, self.backbone
        self.general, self.worn = prefixes(self, p, spread=True, shows=True)
        self.worn.grow(p.pool, self.draws("pool"))
        self.classifier = Masked(self.worn, p.pool, backbone.feature_dim, backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (4), `repeats` steps on every whole batch, whose choices it counts; the order in a task is drawn."""
        p, how, head, draws = self.params, self.params.fit, self.classifier, self.draws("views", task.index)

        def batches(_epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in task.batches(how.batch_size, shuffle=draws):
                for _ in range(p.repeats):
                    yield views(images, self.backbone, how, draws), labels.to(self.backbone.device)

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            h, columns = self.embed(self.on_pixels(pixels))[:, : head.dim], columns_of(labels, self.seen)
            factors = head.factors(self.worn.rows[:, 0]) if p.masks else 1.0
            row = head.linear.weight[columns].detach()
            scaled = h / (1 - F.cosine_similarity(row, h.detach()) + p.margin)[:, None]
            each = F.cross_entropy(factors * head.linear(scaled), columns, reduction="none")
            against = opposed(factors * head.linear(h), columns, h, factors)
            value = ((1 - p.focus + p.focus * against**p.gamma) * each).mean() + p.contrast * self._keys()
            self.worn.tally(self.worn.rows)
            return value

        trained = [*self.general.parameters(), *self.worn.newest(), *head.parameters()]
        yield from descend(
            batches, p.repeats * -(-len(task) // how.batch_size), trained, loss, how, stage="online",
            total=how.epochs * p.repeats * len(task), under=lambda: attention_for(self.backbone), divided=False,
        )  # fmt: skip

    def _keys(self) -> Float[Tensor, ""]:
        """-log(R / (R + D)): an image's key comes nearer, and the keys stay apart."""
        keys, chosen = F.normalize(torch.cat([*self.worn.keys]), dim=1), self.worn.rows[:, 0]
        mass = self.worn.mass(keys)[chosen]
        near = ((1 - self.worn.likeness[:, 0]) / mass).exp().mean()
        apart = ((1 - keys[chosen] @ keys.T) / mass[:, None]).exp().mean()
        return (1 + near / apart).log()

    def internals(self):
        """The keys, how many steps of images have chosen each, and the masks."""
        keys = torch.cat([*self.worn.keys]).detach()
        found = {"prompts/keys": keys, "prompts/chosen": torch.tensor(self.worn.chosen, dtype=torch.float32)}
        masks = self.classifier.factors(torch.arange(len(keys), device=keys.device)).detach()
        return {**found, **({"mvp/masks": masks} if self.seen else {})}


@final
class Masked(Classifier):
    """Equation (2) on [h, q]: a linear head, and for every prompt a mask over the classes."""

    def __init__(self, pool: PromptPool, prompts: int, dim: int, device: torch.device) -> None:
        super().__init__()
        self._pool = (pool,)  # in a tuple: a part of the learner, not of this one
        self.dim, self.linear = dim, Linear(dim, device=device)
        self.masks = nn.Parameter(empty(prompts, 0, device=device), requires_grad=False)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A row of the head, and a column of masks that begins at 2 sigmoid(-1)."""
        self.linear.grow(arriving)
        self.classes = with_new(self.classes, arriving)
        fresh = self.masks.new_full((len(self.masks), len(self.classes) - self.masks.shape[1]), -1.0)
        self.put("masks", torch.cat([self.masks.detach(), fresh], dim=1))

    def factors(self, rows: Int64[Tensor, " image"]) -> Float[Tensor, "image cls"]:
        """2 sigmoid(a_jc), in (0, 2)."""
        return 2 * self.masks[rows].sigmoid()

    def forward(self, features: Float[Tensor, "image wide"]) -> Float[Tensor, "image cls"]:
        """Masked logits."""
        h, query = features.split(self.dim, dim=1)
        return self.factors(self._pool[0].choice(query)[:, 0]) * self.linear(h)

    def rows(self) -> Head:
        """The rows of the head for h, zeros for q."""
        return self.linear.rows()._replace(weight=F.pad(self.linear.weight.detach(), (0, self.dim)))
