"""CPT: prompts for few and unequal images, with the text prototypes kept apart inside their clusters."""

from cillab.backbones.clip import ClipBackbone
from cillab.kit import (
    Competitors, F, Fit, Float, HyperParams, IncompatibleError, Int64, Internal, Iterator, Literal, Method,
    NonNegativeFloat, PositiveInt, Progress, PromptSlot, Slots, Table, Task, Tensor, TextHead, columns_of,
    cross_entropy, deep_prompt, final, fit, method, torch,
)  # fmt: skip
from cillab.parts.clusters import clusters_for, spherical_kmeans
from cillab.parts.prompt_losses import class_convergence, rotation_stabilisation, textual_etf

TERMS = ("clip", "etf", "convergence", "rotation")


class CPTParams(HyperParams):
    """Hyper-parameters of CPT. `preset:cpt-paper` has the paper's weights; docs/results/cpt.md compares them."""

    prompts: Literal["both", "text"] = "both"
    """Tokens in both encoders (IVLP), or in the text encoder alone (CoOp)."""
    etf_weight: NonNegativeFloat = 0.25
    """Weight of the textual ETF separation inside clusters."""
    convergence_weight: NonNegativeFloat = 0.15
    """Weight of the class-wise convergence of images to their class's text."""
    convergence_over: Literal["task", "batch"] = "task"
    """Classes weigh the same over the whole task, as the equation says, or over each batch (in which a class of one
    image seldom is)."""
    rotation_weight: NonNegativeFloat = 0.01
    """Weight of the rotation stabilisation towards the frozen text; 0.10 in the paper."""
    etf_per_pair: bool = True
    """Divide the separation of each cluster by its k (k - 1) pairs; the paper sums them, which at a weight of 0.25 is
    several times the cross-entropy."""
    rotation_normalised: bool = True
    """Compare unit vectors in the rotation stabilisation, or the text embeddings as they come."""
    per_cluster: PositiveInt = 16
    """Classes per cluster on average: M = ceil(K / 16). A large number gives one cluster, the global ETF."""
    context: str = "a photo of a"
    """Words from whose embeddings the shared text tokens start."""
    text_layers: PositiveInt = 9
    """Blocks of the text encoder that get tokens of their own; at most as many as there are."""
    text_start: Literal["phrase", "random"] = "phrase"
    """Deeper text tokens start as what the words become in that block (then nothing has changed), or at random."""
    vision_tokens: PositiveInt = 4
    """Tokens in each prompted block of the image encoder."""
    vision_layers: PositiveInt = 9
    """Blocks of the image encoder that get tokens; at most as many as there are."""
    competitors: Competitors = "seen"
    """Classes in the softmax of a later task: all seen ones, or those of the task alone."""
    fit: Fit = Fit(epochs=10, batch_size=16, lr=0.01, augment="flip")
    """All tokens on the task's images; IVLP has 20 epochs of 4 images at 0.0025, and random crops."""


@method(
    "cpt",
    paper="Guo et al., CPT, CVPR 2026, arXiv:2605.11939",
    evidence="re-implementation of the published losses",
    family="images and text",
    when="Few and unequal images a class, and classes that come by name alone.",
    ours="weights of the losses by default (preset:cpt-paper has the paper's), what happens beyond one task",
    needs={"vit", "clip", "class-names"},
    internals=(
        "text/prototypes",
        "text/frozen",
        Internal("text/clusters", "i64 [K]", "cluster of each name by meaning, fixed when the class came"),
        Internal("text/terms", "f32 [t, 4]", "cross-entropy, ETF, convergence and rotation per task, unweighted"),
    ),
    learns_names=True,
)
@final
class CPT(Method[CPTParams]):
    """Prompts for few, unequal images: ETF separation of class texts inside clusters of meaning.

        g_c = normalised text embedding of [P, name of c],    f = normalised image embedding with vision tokens
        L = CE(s f . g, y) + w_1 L_TETF + w_2 L_CC + w_3 L_RS                                             (1)

    s is the model's own scale; the losses are those of `cillab.parts.prompt_losses`. Clusters come from spherical
    k-means on the frozen prototypes, M = ceil(K / 16), once. Source: Guo et al., CVPR 2026, arXiv:2605.11939: losses,
    weights, clusters. What we could not read there and took from IVLP and PromptSRC (Khattak et al., ICCV 2023,
    arXiv:2307.06948): four tokens in each of the first nine blocks of both encoders, SGD.

    The paper has one task. Here later classes form clusters among themselves, older clusters never change; separation
    and stabilisation hold for all names seen, convergence for classes with images at hand. With all weights 0 this is
    the plain prompt. Keeps 2 K D numbers beside the tokens; one pass per image.
    """

    def setup(self) -> None:
        """Tokens in both encoders, and no name yet."""
        p, backbone = self.params, self.backbone
        if not isinstance(backbone, ClipBackbone):
            raise IncompatibleError(f"{backbone.tag} has no text side: use bundled:clip or openclip:MODEL/TAG.")
        self.clip, silent = backbone, p.text_start == "phrase"
        layers = p.text_layers if p.prompts == "both" else 1
        self.text = deep_prompt(backbone, p.context, layers, silent=silent, generator=self.draws("text prompt"))
        draw, blocks = self.draws("vision prompt"), p.vision_layers if p.prompts == "both" else 0
        self.worn = Slots.everywhere(
            backbone, "before", lambda _: PromptSlot(backbone.token_dim, p.vision_tokens, generator=draw), blocks
        )
        self.classifier = TextHead(backbone, [f"{p.context} {{}}."], self.text)
        self.record = Table(backbone.device)  # cluster of each class, raw frozen texts, terms of (1) per task

    def shape(self, h: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """The f of equation (1), of length 1."""
        return F.normalize(h, dim=-1)

    def arrive(self, task: Task) -> None:
        """Frozen prototypes of the classes that are new, and clusters among them; older clusters stay."""
        known, kept = len(self.classifier.classes), self.record.tensors
        self.classifier.grow(task.classes, task.class_names)
        if not (names := self.classifier.names[known:]):
            return
        frozen = self.classifier.frozen[known:]
        if not self.params.rotation_normalised:
            with torch.no_grad():
                frozen = self.clip.encode_text([f"{self.params.context} {n.replace('_', ' ')}." for n in names])
            kept["raw"] = torch.cat([*([kept["raw"]] if known else []), frozen])
        count, draw = clusters_for(len(names), self.params.per_cluster), self.draws("clusters", task.index)
        groups = spherical_kmeans(frozen, count, draw)
        kept["clusters"] = torch.cat([kept["clusters"], groups + kept["clusters"].max() + 1]) if known else groups

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1) on the images of `task`."""
        p, kept, text = self.params, self.record.tensors, self.classifier
        frozen = text.frozen if p.rotation_normalised else kept["raw"]
        here, steps = text.columns(task.classes), list[Tensor]()
        counts = images_of_each(task).to(here.device) if p.convergence_over == "task" else None

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            f, raw = self.shape(h), self.text.encode(text.names)
            g = F.normalize(raw, dim=-1)
            clip = cross_entropy(text.scale * f @ g.T, labels, self.seen, task.classes, p.competitors)
            etf = textual_etf(g, kept["clusters"], per_pair=p.etf_per_pair)
            near = class_convergence(f, columns_of(labels, task.classes), g[here], counts)
            still = rotation_stabilisation(raw, frozen, normalised=p.rotation_normalised)
            steps.append(torch.stack([clip, etf, near, still]).detach())
            return clip + p.etf_weight * etf + p.convergence_weight * near + p.rotation_weight * still

        tokens = [*self.text.parameters(), *self.worn.parameters()]
        yield from fit(self, task, tokens, loss, p.fit, stage="prompts", divided=False)  # it keeps its terms
        text.refresh()
        if steps:
            last = torch.stack(steps[-(len(steps) // p.fit.epochs) :]).mean(dim=0)
            kept["terms"] = torch.stack([*kept.get("terms", ()), last])

    def internals(self):
        """Learnt and frozen prototypes, cluster of each class, mean terms of (1) over the last epoch of each task."""
        text, kept = self.classifier, self.record.tensors
        if not self.seen:
            return {}
        found = {f"text/{name}": kept[name] for name in ("clusters", "terms") if name in kept}
        return {"text/prototypes": text.prototypes, "text/frozen": text.frozen, **found}


def images_of_each(task: Task) -> Int64[Tensor, " cls"]:
    """How many images each class of the task has, in the task's order of classes."""
    labels = torch.cat([labels for _, labels in task.batches(256)])
    return columns_of(labels, task.classes).bincount(minlength=len(task.classes))
