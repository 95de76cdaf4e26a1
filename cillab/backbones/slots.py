"""Small modules in named places of an unmodified ViT, there only while they are worn.

A place is `kind:name` with the dotted name of a module inside the backbone; the slot sees `[image, token, dim]`.

    after:blocks.3            r <- slot(r), r being what the module returns: the residual stream after a block
    mlp:blocks.3              the block's output + slot(x), x being the stream that enters its MLP branch (before the
                              norm): the parallel adapter. Independent of the block's layer scale and drop path
    beside:blocks.3.attn.qkv  the module's output + slot(its input): a branch parallel to any layer
    before:blocks.3           the block reads its input with the slot's tokens appended at the end. They flow on through
                              the following blocks until the next `before:` place puts others in their stead (or, where
                              its slot `keeps`, beside them), and are gone behind the last block: the class token
                              stays where it is, and so does what is pooled
    kv:blocks.3               keys and values in front of those of the block's attention: `cillab.backbones.prefixed`

What else is worn on a ViT is one of these or a line more in `_hook`. A scale and a shift for every channel (SSF, FiLM)
are folded into the weights: `cillab.backbones.affine`. LoRA on the attention of any ViT is `cillab.backbones.lora`:
open_clip keeps q, k and v in one parameter and not in a module.

open_clip may run its blocks with tokens first; slots are given images first in any case.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cillab.backbones.prefixed import attention_of, prefixed
from cillab.backbones.slot import KeyValueSlot, Slot, Tokens, TokenSlot
from cillab.core.contract import Backbone, Delta, Part, State
from cillab.core.errors import IncompatibleError, InvalidRequestError, RunError, one_line

Kind = Literal["after", "mlp", "beside", "before", "kv"]
KINDS = ("after", "mlp", "beside", "before", "kv")

# Where the stream that enters the MLP branch can be seen: the input of the branch's first module.
_PRE_NORM = ("norm2", "ln_2")
_POST_NORM_BLOCKS = frozenset({"ResPostBlock", "ResPostRelPosBlock", "EvaBlockPostNorm"})
# Blocks that treat all tokens alike, however many there are: neither windows nor relative or rotary positions.
_ANY_LENGTH_BLOCKS = frozenset(
    {"Block", "ResPostBlock", "ParallelScalingBlock", "ResidualAttentionBlock", "CustomResidualAttentionBlock"}
)


@final
class AdapterSlot(Slot):
    """A bottleneck: scale * up(relu(down(x))), for `mlp:` places; a fresh one returns exactly 0.

    Source: AdaptFormer, Chen et al., NeurIPS 2022, arXiv:2205.13535, with the initialisation of its released code:
    down Kaiming-uniform (a = sqrt 5), up and both biases zero. 2 * dim * bottleneck + dim + bottleneck parameters.
    """

    def __init__(self, dim: int, bottleneck: int, scale: float = 0.1, *, generator: torch.Generator) -> None:
        super().__init__()
        self.down = _linear(dim, bottleneck)
        self.up = _linear(bottleneck, dim)
        bound = 1 / math.sqrt(dim)  # Kaiming-uniform with a = sqrt 5: gain sqrt(1/3), times sqrt(3 / dim)
        with torch.no_grad():
            self.down.weight.uniform_(-bound, bound, generator=generator)
        self.register_buffer("scale", torch.tensor(float(scale)))  # a buffer, so that it is part of the state

    def forward(self, tokens: Tokens) -> Tokens:
        """The term that is added to the block's output."""
        return self.scale * self.up(F.relu(self.down(tokens)))


@final
class PromptSlot(TokenSlot):
    """Trained tokens beside those of the image, for `before:` places.

    One at the first block alone is VPT-shallow, one at every block VPT-deep (Jia et al., ECCV 2022, arXiv:2203.12119),
    one at each of the first n blocks the vision side of MaPLe and IVLP. Drawn from N(0, 0.02^2). No values make a
    fresh one silent: even zero tokens draw attention away from the others (their keys are the bias of the key map).
    Holds length * dim numbers.
    """

    def __init__(self, dim: int, length: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.tokens = nn.Parameter(0.02 * torch.randn(length, dim, generator=generator))

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def forward(self, tokens: Tokens) -> Float[Tensor, "image longer dim"]:
        """The tokens of the image, then the prompt."""
        return torch.cat([tokens, self.tokens.expand(len(tokens), -1, -1).to(tokens.dtype)], dim=1)


@dataclass(frozen=True)
class Place:
    """Where a slot stands: `after:blocks.3`, `mlp:blocks.3`, `beside:blocks.3.attn.qkv`, `before:blocks.3`, ..."""

    kind: Kind
    module: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read `kind:name`."""
        kind, _, name = text.partition(":")
        if kind not in KINDS or not name:
            raise InvalidRequestError(f"Place {text!r}: write KIND:MODULE with KIND one of {', '.join(KINDS)}.")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.module}"


class Slots(nn.Module, Delta, Part):
    """Slots by place, worn together. Iterating gives the slots; their parameters start without `requires_grad`."""

    def __init__(self, backbone: Backbone, slots: Mapping[str, Slot]) -> None:
        """Put `slots` on the backbone's device.

        Raises:
            IncompatibleError: the backbone is no ViT.
            InvalidRequestError: a place that this backbone does not have, or that does not suit the slot.
        """
        super().__init__()
        if backbone.kind != "vit":
            raise IncompatibleError(f"{backbone.tag} is a {backbone.kind}: slots stand in the blocks of a ViT.")
        self.places = tuple(Place.parse(text) for text in slots)
        self.slots = nn.ModuleList(slots.values()).to(backbone.device).requires_grad_(False)
        for place, slot in zip(self.places, self, strict=True):
            _check_place(backbone.module, place, backbone.tag)
            for kind, taken in (("before", TokenSlot), ("kv", KeyValueSlot)):
                if (place.kind == kind) != isinstance(slot, taken):
                    raise InvalidRequestError(
                        f"{place}: `{kind}:` places take a {taken.__name__}, no other place does."
                    )

    @classmethod
    def everywhere(
        cls,
        backbone: Backbone,
        kind: Literal["after", "mlp", "before", "kv"],
        make: Callable[[int], Slot],
        blocks: int | None = None,
        *,
        start: int = 0,
    ) -> "Slots":
        """One slot per block, or for each of `blocks` blocks from `start` on: `make(i)` for block i."""
        names = backbone.block_names[start : None if blocks is None else start + blocks]
        return cls(backbone, {f"{kind}:{name}": make(start + index) for index, name in enumerate(names)})

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> Slot:
        return self.slots[index]  # type: ignore[return-value]

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Hook every slot to its place; all hooks are gone afterwards."""
        pairs = list(zip(self.places, self, strict=True))
        with ExitStack() as stack:
            for handle in _hook_prompts(module, {p.module: s for p, s in pairs if isinstance(s, TokenSlot)}):
                stack.callback(handle.remove)
            for place, slot in pairs:
                if isinstance(slot, KeyValueSlot):
                    stack.enter_context(prefixed(module.get_submodule(place.module), slot))
                for handle in _hook(module, place, slot):
                    stack.callback(handle.remove)
            yield

    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor of every slot under its place and type."""
        return {
            f"{place}/{type(slot).__name__}.{name}": tensor
            for place, slot in zip(self.places, self, strict=True)
            for name, tensor in _tensors_of(slot).items()
        }

    def state(self) -> State:
        """Parameters and buffers of every slot under its place."""
        return State(
            {
                f"{place}/{name}": tensor
                for place, slot in zip(self.places, self, strict=True)
                for name, tensor in slot.state_dict(keep_vars=True).items()
            }
        )

    def load(self, state: State) -> None:
        """Become what `state` describes, shapes included; everything is frozen afterwards.

        Raises:
            RunError: a tensor is missing, left over, or of a shape that the slot cannot take.
        """
        for place, slot in zip(self.places, self, strict=True):
            own = {k.removeprefix(f"{place}/"): t for k, t in state.tensors.items() if k.startswith(f"{place}/")}
            slot.shape_like(own)
            try:
                slot.load_state_dict(own, strict=True)
            except RuntimeError as error:
                raise RunError(f"The checkpoint does not fit the slot {place}: {one_line(error)}") from error
        if strays := [k for k in state.tensors if k.rpartition("/")[0] not in {str(place) for place in self.places}]:
            raise RunError(f"The checkpoint has a slot where the learner has none: {strays[0]}.")
        self.slots.requires_grad_(False)


def _tensors_of(slot: Slot) -> dict[str, Tensor]:
    """Parameters, buffers and what else a slot declares to decide its output."""
    return {**dict(slot.named_parameters()), **dict(slot.named_buffers()), **slot.circumstances()}


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer of zeros, made without a draw from the global generator.

    Not by `to_empty`: its first call in a process imports a library of symbols, which takes more than a second.
    """
    layer = nn.Linear(inputs, outputs, device="meta")
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(torch.zeros(parameter.shape, dtype=parameter.dtype)))
    return layer


def _check_place(root: nn.Module, place: Place, tag: str) -> None:
    try:
        module = root.get_submodule(place.module)
    except AttributeError as error:
        raise InvalidRequestError(f"{tag} has no module {place.module!r} for the slot {place}.") from error
    if place.kind == "mlp":
        _entrance_of_mlp(module)
    if place.kind == "kv":
        attention_of(module)
    if place.kind == "before" and type(module).__name__ not in _ANY_LENGTH_BLOCKS:
        raise InvalidRequestError(f"{place}: a {type(module).__name__} is no block that takes any number of tokens.")


def _entrance_of_mlp(block: nn.Module) -> nn.Module:
    """The module whose input is the residual stream that enters the MLP branch of `block`."""
    children = dict(block.named_children())
    if type(block).__name__ in _POST_NORM_BLOCKS:
        return children["mlp"]
    for name in _PRE_NORM:
        if name in children and "mlp" in children:
            return children[name]
    raise InvalidRequestError(f"A {type(block).__name__} has no MLP branch of its own that a slot could stand beside.")


_TOKENS_FIRST: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()  # of models that are still there


def _tokens_first(root: nn.Module, name: str) -> bool:
    """Does open_clip run this place on [token, image, dim]? Found once: looking through a model takes a millisecond."""
    known = _TOKENS_FIRST.setdefault(root, {})
    if name not in known:
        known[name] = _find_tokens_first(root, name)
    return known[name]


def _find_tokens_first(root: nn.Module, name: str) -> bool:
    """The attention module of the block around the place knows."""
    while name:
        attentions = [m for m in root.get_submodule(name).modules() if isinstance(m, nn.MultiheadAttention)]
        if attentions:
            return not attentions[0].batch_first
        name = name.rpartition(".")[0]
    return False


def _hook(root: nn.Module, place: Place, slot: Slot) -> Iterator[RemovableHandle]:
    """Connect `slot` to its place; yields the handles of the hooks."""
    module, turned = root.get_submodule(place.module), _tokens_first(root, place.module)
    stream: list[Tensor] = []  # what enters the MLP branch, kept until the block ends

    def ask(tokens: Tensor) -> Tensor:
        return slot(tokens.transpose(0, 1)).transpose(0, 1) if turned else slot(tokens)

    def keep(_module: nn.Module, inputs: Any) -> None:
        stream[:] = [inputs[0]]

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        return ask(output)

    def beside(_module: nn.Module, inputs: Any, output: Any) -> Tensor:
        return output + ask(inputs[0])

    def beside_mlp(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        added, images = ask(stream.pop()), 1 if turned else 0
        rows = added.shape[images] // output.shape[images]  # of an image: several where sets of slots stand abreast
        return (output if rows == 1 else torch.cat([output] * rows, dim=images)) + added

    # What is added belongs to the module's own output: it comes before any slot that stands after the module.
    match place.kind:
        case "after":
            yield module.register_forward_hook(after)
        case "beside":
            yield module.register_forward_hook(beside, prepend=True)
        case "mlp":
            yield _entrance_of_mlp(module).register_forward_pre_hook(keep)
            yield module.register_forward_hook(beside_mlp, prepend=True)


def _hook_prompts(root: nn.Module, prompts: Mapping[str, TokenSlot]) -> Iterator[RemovableHandle]:
    """Append before the first block with a prompt, exchange or keep before the others, take away behind the last."""
    if not prompts:
        return
    container = next(iter(prompts)).rpartition(".")[0]
    blocks = [f"{container}.{name}" for name, _ in root.get_submodule(container).named_children()]
    dim = 0 if _tokens_first(root, container) else 1
    worn = 0  # tokens that flow along at the block in question

    def entering(slot: TokenSlot, before: int) -> Callable[[nn.Module, Any], Any]:
        def enter(_module: nn.Module, inputs: Any) -> Any:
            own = inputs[0].narrow(dim, 0, inputs[0].shape[dim] - before)
            longer = slot(own) if dim else slot(own.transpose(0, 1)).transpose(0, 1)
            return (longer, *inputs[1:])

        return enter

    for name in blocks:
        if name in prompts:
            replaced = 0 if prompts[name].keeps else worn
            yield root.get_submodule(name).register_forward_pre_hook(entering(prompts[name], replaced))
            worn += len(prompts[name]) - replaced

    alone = prompts[max(prompts, key=blocks.index)].alone

    def leave(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        own = output.shape[dim] - worn
        if not alone:
            return output.narrow(dim, 0, own)
        theirs = output.narrow(dim, own, worn)
        each = (theirs if dim else theirs.transpose(0, 1)).flatten(0, 1)  # [image * prompt, dim]
        return each.unsqueeze(dim).repeat_interleave(alone, dim)

    yield root.get_submodule(blocks[-1]).register_forward_hook(leave)
