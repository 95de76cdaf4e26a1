"""Soft text prompts. Oracle: open_clip's own `encode_text` on the sentence that the prompt stands for."""

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.backbones.clip import ClipBackbone, clip_anatomy
from cillab.backbones.prompts import TextPrompt
from cillab.backbones.text import encode_classes
from cillab.core.errors import IncompatibleError, InvalidRequestError
from tests.backbones.models import CLIP, clip, preprocessing, seeded, vit

NAMES = ["cat", "sea_lion", "aquarium fish"]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def custom_clip(**text: Any) -> ClipBackbone:
    """CustomTextCLIP: the same towers, the text one kept as a module of its own."""
    model = seeded(lambda: open_clip.CustomTextCLIP(**{**CLIP, "text_cfg": CLIP["text_cfg"] | text}))
    return ClipBackbone(
        model,
        open_clip.SimpleTokenizer(context_length=16),
        tag="openclip:custom",
        anatomy=clip_anatomy(model.visual),
        preprocessing=preprocessing(),
        precision="fp32",
        device="cpu",
    )


@pytest.mark.parametrize(
    "make",
    [clip, custom_clip, lambda: custom_clip(no_causal_mask=True, pool_type="last")],
    ids=["clip", "custom", "last"],
)
def test_an_untrained_phrase_is_zero_shot_clip(make) -> None:
    backbone = make()
    prompt = TextPrompt(backbone, "a photo of a", generator=draws())
    assert len(prompt.context) == 4
    found = prompt.prototypes(NAMES)
    torch.testing.assert_close(found, encode_classes(backbone, NAMES), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))


def test_task_tokens_stand_behind_the_context_and_choose_by_task() -> None:
    """P = "a photo", Q_0 = "of a", Q_1 = "of the": two sentences that CLIP can say by itself."""
    backbone = clip()
    prompt = TextPrompt(backbone, "a photo", task_tokens=2, generator=draws())
    for words in ("of a", "of the"):
        prompt.grow(draws(1))
        prompt.tasks[-1].data.copy_(TextPrompt(backbone, words, generator=draws()).context)
    with torch.no_grad():
        said = backbone.encode_text(["a photo of a cat.", "a photo of the sea lion."])
    torch.testing.assert_close(prompt.encode(["cat", "sea_lion"], [0, 1]), said, rtol=0, atol=1e-5)
    with pytest.raises(InvalidRequestError, match="task of every class name"):
        prompt.encode(["cat"])


def test_random_context_is_drawn_from_the_generator_alone() -> None:
    backbone, before = clip(), torch.get_rng_state()
    one, two, other = (TextPrompt(backbone, 8, generator=draws(seed)).context for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(0.02, rel=0.2)
    assert torch.equal(before, torch.get_rng_state())


def test_gradient_reaches_the_tokens_alone_and_is_the_slope() -> None:
    backbone = clip()
    prompt = TextPrompt(backbone, "a photo of a", task_tokens=1, generator=draws())
    prompt.grow(draws(1))
    prompt.requires_grad_(True)

    def value() -> Tensor:
        return prompt.prototypes(NAMES, [0, 0, 0])[:, 0].sum()

    value().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in prompt.parameters())
    assert all(p.grad is None and not p.requires_grad for p in backbone.model.parameters())
    assert {id(p) for p in prompt.parameters()} == {id(prompt.context), id(prompt.tasks[0])}
    assert prompt.context.grad is not None
    slope, direction = prompt.context.grad.clone(), torch.randn(prompt.context.shape, generator=draws(2))
    with torch.no_grad():
        prompt.context.add_(1e-3 * direction)
        up = value()
        prompt.context.sub_(2e-3 * direction)
        down = value()
    assert float((up - down) / 2e-3) == pytest.approx(float((slope * direction).sum()), rel=1e-2)


@pytest.mark.parametrize("layers", [1, 2])
def test_padding_is_cut_where_it_cannot_matter(layers: int) -> None:
    """Among longer names the sentence of a class is padded; its prototype stays."""
    backbone = custom_clip(layers=2)
    prompt = TextPrompt(backbone, 3, layers=layers, generator=draws())
    assert prompt.sentences(["cat"]).ids.shape == (1, 7)  # SOS, three tokens, cat, full stop, EOS
    together = prompt.prototypes(["cat", "a very long name of a fish"])[0]
    torch.testing.assert_close(prompt.prototypes(["cat"])[0], together, rtol=0, atol=1e-5)


def test_deep_tokens_replace_the_context_before_later_blocks() -> None:
    backbone = custom_clip(layers=3)
    prompt = TextPrompt(backbone, 2, layers=2, generator=draws())
    seen: list[Tensor] = []
    blocks = backbone.model.text.transformer.resblocks
    handles = [b.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0])) for b in blocks]
    with torch.no_grad():
        prompt.prototypes(NAMES)
    for handle in handles:
        handle.remove()
    for row in seen[1]:
        assert torch.equal(row[1:3], prompt.deep[0])
    assert not torch.equal(seen[2][0, 1:3], prompt.deep[0])  # from here on they flow as any token
    prompt.requires_grad_(True)
    prompt.prototypes(NAMES).sum().backward()
    assert prompt.deep[0].grad.abs().max() > 0


def test_names_are_tokenised_once() -> None:
    backbone = clip()
    prompt = TextPrompt(backbone, 2, generator=draws())
    first = prompt.prototypes(NAMES)
    backbone._tokenise = None  # type: ignore[assignment]  # from here on everything must be remembered
    assert torch.equal(prompt.prototypes(NAMES), first)
    torch.testing.assert_close(prompt.prototypes(NAMES[::-1]), first.flip(0))


def test_state_carries_everything_task_rows_too() -> None:
    backbone = clip()
    prompt = TextPrompt(backbone, 3, task_tokens=2, generator=draws())
    prompt.grow(draws(1))
    prompt.grow(draws(2))
    fresh = TextPrompt(backbone, 3, task_tokens=2, generator=draws(9))
    fresh.load(prompt.state())
    assert torch.equal(fresh.prototypes(NAMES, [0, 1, 1]), prompt.prototypes(NAMES, [0, 1, 1]))
    assert not any(p.requires_grad for p in fresh.parameters())


def test_works_under_bf16() -> None:
    backbone = clip(precision="bf16")
    prompt = TextPrompt(backbone, "a photo of a", generator=draws())
    prompt.requires_grad_(True)
    found = prompt.prototypes(NAMES)
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found, encode_classes(backbone, NAMES)).min() > 0.99
    found[:, 0].sum().backward()
    assert prompt.context.grad is not None
    assert prompt.context.grad.isfinite().all()


def test_refusals_name_what_is_wrong() -> None:
    with pytest.raises(IncompatibleError, match="timm:tiny has no text side"):
        TextPrompt(vit(), generator=draws())
    with pytest.raises(InvalidRequestError, match="prompted text layers = 2: openclip:tiny has 1"):
        TextPrompt(clip(), 2, layers=2, generator=draws())
    with pytest.raises(InvalidRequestError, match="no token"):
        TextPrompt(clip(), 0, generator=draws())
    prompt = TextPrompt(clip(), 12, generator=draws())
    prompt.prototypes(["cat"])  # SOS + 12 + cat + . + EOS = 16: just fits
    with pytest.raises(InvalidRequestError, match=r"Class 'sea_lion': 17 tokens with a prompt of 12.*reads 16"):
        prompt.prototypes(["cat", "sea_lion"])
    with pytest.raises(InvalidRequestError, match=r"'cat cat.* has 43 tokens, but openclip:tiny reads 16"):
        prompt.prototypes(["cat " * 40])  # longer than the tower: the tokeniser would cut it silently
