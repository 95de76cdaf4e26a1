"""Soft text prompts: trained tokens between the start of a sentence and a class name, under a frozen text tower.

    prompt_c = [SOS, P, Q_t(c), name_c, ".", EOS]

P is shared by all classes, Q_t by the classes of task t. Gradients pass through the tower and reach the tokens alone.
The words for the images' side, vision prompts, are slots: `before:` places of `cillab.backbones.slots`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cillab.backbones.clip import TEXT_CHUNK, ClipBackbone
from cillab.core.arrays import sent
from cillab.core.contract import Backbone, Part, State
from cillab.core.errors import IncompatibleError, InvalidRequestError

STD = 0.02  # of fresh tokens, as in CoOp
REMEMBERED = 4  # lists of class names whose sentences are kept ready


class Sentences(NamedTuple):
    """Class names as token ids and as embeddings, with room for the prompt at `start`."""

    ids: Int64[Tensor, "cls token"]
    embedded: Float[Tensor, "cls token width"]


class TextTower:
    """The parts of an open_clip text tower, wherever the model keeps them, and their use from embeddings on.

    Raises:
        IncompatibleError: no text side, or one that does not work on a plain row of tokens (Hugging Face, CoCa).
    """

    def __init__(self, backbone: Backbone) -> None:
        if not isinstance(backbone, ClipBackbone):
            raise IncompatibleError(f"{backbone.tag} has no text side: use bundled:clip or openclip:MODEL/TAG.")
        own: Any = getattr(backbone.model, "text", backbone.model)  # CustomTextCLIP keeps the tower as `text`
        if not hasattr(own, "token_embedding") or getattr(own, "cls_emb", None) is not None:
            raise IncompatibleError(
                f"{backbone.tag}: soft prompts need open_clip's own text tower without a class token."
            )
        if getattr(own, "use_pad_mask", False):
            raise IncompatibleError(f"{backbone.tag}: soft prompts need a text tower that does not mask its padding.")
        self.own = own
        self.pool = getattr(own, "text_pool_type", getattr(own, "pool_type", "argmax"))
        self.eos_id = getattr(own, "text_eos_id", getattr(own, "eos_id", None))
        self.causal = own.attn_mask is not None
        self.context_length, self.width = own.positional_embedding.shape
        self.depth = len(own.transformer.resblocks)
        # Under a causal mask nothing behind the end of a sentence reaches what is read there: it can be left away.
        self.may_cut = self.causal and self.pool in ("argmax", "eos", "first")

    def embed(self, ids: Int64[Tensor, "..."]) -> Float[Tensor, "... width"]:
        """Rows of the token embedding, without positions and without gradient."""
        return self.own.token_embedding(ids).detach()

    def run(
        self, x: Float[Tensor, "cls token width"], ids: Int64[Tensor, "cls token"], start: int, deep: Sequence[Tensor]
    ) -> Float[Tensor, "cls feature"]:
        """`encode_text` from token embeddings on; `deep[i]` replaces what stands at `start` before block i + 1."""
        from open_clip.transformer import text_global_pool  # noqa: PLC0415 - whoever has a tower has loaded it

        own, count = self.own, x.shape[1]
        x = x + own.positional_embedding[:count]
        mask = own.attn_mask[:count, :count] if self.causal else None
        first = not own.transformer.batch_first
        x = x.transpose(0, 1) if first else x
        for index, block in enumerate(own.transformer.resblocks):
            if 0 < index <= len(deep):
                x = _replaced(x, deep[index - 1], start, 0 if first else 1)
            x = block(x, attn_mask=mask)
        x = own.ln_final(x.transpose(0, 1) if first else x)
        pooled = text_global_pool(x, ids, self.pool, eos_token_id=self.eos_id)
        if own.text_projection is None:
            return pooled
        if isinstance(own.text_projection, nn.Linear):
            return own.text_projection(pooled)
        return pooled @ own.text_projection


def _replaced(x: Tensor, tokens: Float[Tensor, "token width"], start: int, dim: int) -> Tensor:
    """`x` with `tokens` at `start`, the same for every class."""
    end = start + len(tokens)
    before, after = x.narrow(dim, 0, start), x.narrow(dim, end, x.shape[dim] - end)
    placed = tokens.unsqueeze(1 - dim).to(x.dtype)
    placed = placed.expand(*(x.shape[i] if i == 1 - dim else n for i, n in enumerate(placed.shape)))
    return torch.cat([before, placed, after], dim=dim)


@final
class TextPrompt(nn.Module, Part):
    """Context tokens P, optional deep tokens and optional tokens Q_t per task; all else of the text side is frozen.

    `context` is a number of tokens drawn from N(0, 0.02^2), or a phrase whose token embeddings P starts from. With
    the phrase "a photo of a", one prompted layer and nothing trained, `prototypes` are those of
    `encode_classes(backbone, names)`: zero prompt change is zero-shot CLIP. `layers` = n > 1 puts fresh tokens in the
    place of P before blocks 2 to n (deep prompts of MaPLe and IVLP); they start at random, so a fresh deep prompt is
    not zero-shot CLIP. `task_tokens` is the number of tokens of each Q_t; `grow` adds one Q_t.
    Source: CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134; deep: MaPLe, Khattak et al., CVPR 2023, arXiv:2210.03117.
    Holds (layers * length + tasks * task_tokens) * width numbers.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: int | str = "a photo of a",
        *,
        layers: int = 1,
        task_tokens: int = 0,
        generator: torch.Generator,
    ) -> None:
        """Draw or copy the tokens; nothing requires grad.

        Raises:
            IncompatibleError: the backbone has no text side, or one that cannot be prompted.
            InvalidRequestError: no token, or more prompted layers than the tower has.
        """
        super().__init__()
        self.tower = TextTower(backbone)
        assert isinstance(backbone, ClipBackbone)
        self.backbone = backbone
        if not 1 <= layers <= self.tower.depth:
            raise InvalidRequestError(f"prompted text layers = {layers}: {backbone.tag} has {self.tower.depth}.")
        pair = self._tokens(["a", "z"])
        self.start = int((pair[0] != pair[1]).int().argmax())  # tokens before the first word: SOS, or none
        empty = self._tokens([""])[0]
        self._head, self._pad = empty[: self.start], int(empty[-1])
        self._names: dict[str, Int64[Tensor, " token"]] = {}
        self._ready: dict[tuple[str, ...], Sentences] = {}
        with torch.no_grad():
            first = self._of_phrase(context) if isinstance(context, str) else self._drawn(context, generator)
        if not len(first):
            raise InvalidRequestError(f"context = {context!r} has no token.")
        self.context = nn.Parameter(first, requires_grad=False)
        self.deep = nn.ParameterList(
            nn.Parameter(self._drawn(len(first), generator), requires_grad=False) for _ in range(layers - 1)
        )
        self.tasks = nn.ParameterList()
        self.task_tokens = task_tokens

    def grow(self, generator: torch.Generator) -> None:
        """Add the tokens Q_t of one more task."""
        self.tasks.append(nn.Parameter(self._drawn(self.task_tokens, generator), requires_grad=False))

    def prototypes(self, names: Sequence[str], task_of: Sequence[int] | None = None) -> Float[Tensor, "cls feature"]:
        """Unit vectors of the prompted class names, with gradient to the tokens.

        `task_of` gives the row of Q for each name; it may be left out when there are no task tokens.
        """
        return F.normalize(self.encode(names, task_of), dim=-1)

    def encode(self, names: Sequence[str], task_of: Sequence[int] | None = None) -> Float[Tensor, "cls feature"]:
        """Embeddings of the prompted class names before normalisation, float32, with gradient to the tokens.

        Raises:
            InvalidRequestError: a name too long for the tower, or task tokens without `task_of`.
        """
        if self.task_tokens and (task_of is None or len(task_of) != len(names)):
            raise InvalidRequestError("This prompt has task tokens: give the task of every class name.")
        if not names:
            return self.context.new_zeros(0, self.backbone.feature_dim)
        ids, embedded = self.sentences(names)
        prompt = self.context.expand(len(names), -1, -1)
        if self.task_tokens:
            rows = sent(list(task_of or ()), prompt.device, torch.int64)
            prompt = torch.cat([prompt, torch.stack([*self.tasks])[rows]], dim=1)
        behind = self.start + prompt.shape[1]
        x = torch.cat([embedded[:, : self.start], prompt, embedded[:, behind:]], dim=1)
        with self.backbone.autocast():
            parts = [
                self.tower.run(some, own, self.start, [*self.deep]).float()
                for some, own in zip(x.split(TEXT_CHUNK), ids.split(TEXT_CHUNK), strict=True)
            ]
        return torch.cat(parts)

    def sentences(self, names: Sequence[str]) -> Sentences:
        """Tokens and embeddings of `names` with room for the prompt; made once per list of names.

        Raises:
            InvalidRequestError: prompt and name together have more tokens than the tower reads.
        """
        key = tuple(names)
        if key not in self._ready:
            room = len(self.context) + self.task_tokens
            bodies = [self._body(name) for name in names]
            used = [self.start + room + len(body) for body in bodies]
            for name, count in zip(names, used, strict=True):
                if count > self.tower.context_length:
                    raise InvalidRequestError(
                        f"Class {name!r}: {count} tokens with a prompt of {room}, but {self.backbone.tag} reads "
                        f"{self.tower.context_length}. Shorten the prompt or the name."
                    )
            length = max(used) if self.tower.may_cut else self.tower.context_length
            filler = bodies[0][:1].expand(room)  # replaced by the prompt; any token that ends no sentence
            ids = torch.stack(
                [F.pad(torch.cat([self._head, filler, b]), (0, length), value=self._pad)[:length] for b in bodies]
            )
            ids = ids.to(self.backbone.device)
            while len(self._ready) >= REMEMBERED:
                self._ready.pop(next(iter(self._ready)))
            self._ready[key] = Sentences(ids, self.tower.embed(ids))
        return self._ready[key]

    def _body(self, name: str) -> Int64[Tensor, " token"]:
        """Token ids of `name.` with the end of the sentence, without its start."""
        if name not in self._names:
            ids = self._tokens([f"{name.replace('_', ' ')}."])[0]
            used = int((ids != self._pad).nonzero().max()) + 1
            self._names[name] = ids[self.start : used]
        return self._names[name]

    def _tokens(self, texts: list[str]) -> Int64[Tensor, "text token"]:
        return self.backbone._tokenise(texts)

    def _of_phrase(self, phrase: str) -> Float[Tensor, "token width"]:
        """Embeddings of the words of `phrase`."""
        ids = self._tokens([f"{phrase} a", f"{phrase} z"])
        end = int((ids[0] != ids[1]).int().argmax())  # the first token behind the phrase
        return self.tower.embed(ids[0, self.start : end].to(self.backbone.device)).clone()

    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "token width"]:
        return (torch.randn(count, self.tower.width, generator=generator) * STD).to(self.backbone.device)

    def state(self) -> State:
        """All tokens."""
        tensors: dict[str, Tensor] = {"context": self.context}
        tensors |= {f"deep/{index}": tokens for index, tokens in enumerate(self.deep)}
        tensors |= {f"task/{index}": tokens for index, tokens in enumerate(self.tasks)}
        return State(tensors, {"deep": len(self.deep), "tasks": len(self.tasks), "task_tokens": self.task_tokens})

    def load(self, state: State) -> None:
        """Take over all tokens, however many tasks they are for; everything is frozen afterwards."""

        def taken(name: str) -> nn.Parameter:
            return nn.Parameter(state.tensors[name].detach().clone().to(self.backbone.device), requires_grad=False)

        self._ready.clear()
        self.context = taken("context")
        self.deep = nn.ParameterList(taken(f"deep/{index}") for index in range(state.meta["deep"]))
        self.tasks = nn.ParameterList(taken(f"task/{index}") for index in range(state.meta["tasks"]))
        self.task_tokens = state.meta["task_tokens"]
