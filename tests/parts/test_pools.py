"""Pools: the choice of an image is its own, whatever the batch, the chunk and the memory of features; a vote is not."""

import pytest
import torch
import torch.nn.functional as F

from cillab.backbones import frozen
from cillab.core import rng
from cillab.core.errors import InvalidRequestError
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.parts.pools import ComponentPool, PromptPool, orthonormal
from tests.backbones.models import clip, pictures, pixels, vit


def pool(backbone, **options) -> PromptPool:
    made = PromptPool(backbone, 3, 2, **options)
    made.grow(6, rng.stream(0, "pool"))
    return made


def components(backbone, *counts: int) -> ComponentPool:
    made = ComponentPool(backbone, 2, blocks=(0, 2))
    for number, count in enumerate(counts):
        made.grow(count, rng.stream(0, "components", number))
    return made


KINDS = {
    "tokens": pool,
    "read": lambda backbone: pool(backbone, reads=True),
    "deep": lambda backbone: pool(backbone, blocks=(0, 2), reads=True),
    "prefix": lambda backbone: pool(backbone, kind="prefix", blocks=(1, 2, 9)),
    "components": lambda backbone: components(backbone, 3, 2),
}
ALL = pytest.mark.parametrize("kind", KINDS)
BOTH = pytest.mark.parametrize("make", [vit, clip])


@ALL
@BOTH
def test_an_image_gets_the_same_prompts_alone_and_in_company(make, kind, monkeypatch) -> None:
    backbone, images = make(), pictures(11)
    worn = KINDS[kind](backbone)
    with torch.no_grad(), backbone.wearing(worn):
        together = backbone(images)
        remembered = backbone(images.flip(0)).flip(0)
        backbone.memory.clear()
        monkeypatch.setattr(frozen, "CHUNK", 3)
        chunked = backbone(images)
        backbone.memory.clear()
        alone = torch.cat([backbone(image[None]) for image in images])
        with_gradient = backbone.embed(backbone.pixels(images))
    assert together.shape == (11, backbone.feature_dim)
    assert torch.equal(together, remembered)
    for other in (chunked, alone, with_gradient):
        torch.testing.assert_close(other, together, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(backbone(images), together, atol=1e-2)  # and without them it is another network


@ALL
def test_other_rows_are_other_features(kind) -> None:
    """What is remembered under one state of the pool is not found under another."""
    backbone, images = vit(), pictures(5)
    worn = KINDS[kind](backbone)
    with torch.no_grad(), backbone.wearing(worn):
        before = backbone(images)
        worn.prompts[0].neg_()
        assert not torch.allclose(backbone(images), before, atol=1e-2)


def test_the_choice_is_the_nearest_keys() -> None:
    backbone, images = vit(), pictures(9)
    worn = pool(backbone)
    with torch.no_grad():
        query = backbone(images)
        cosines = torch.stack([F.cosine_similarity(query, key[None]) for key in worn.keys[0]], dim=1)
        with backbone.wearing(worn):
            backbone(images)
    expected = cosines.argsort(dim=1, descending=True)[:, :2]
    assert torch.equal(worn.choice(query), expected)
    torch.testing.assert_close(worn.likeness, cosines.gather(1, expected))
    worn.count(query)
    assert sum(worn.chosen) == 18 and worn.chosen == tuple(torch.bincount(expected.flatten(), minlength=6).tolist())


@BOTH
def test_reading_the_prompts_is_the_mean_over_each_read_alone(make) -> None:
    """Oracle: append by hand, then let the model read each prompt token in the place of its class token."""
    backbone, own = make(), pixels(2)
    worn, alone = pool(backbone, reads=True), []
    with torch.no_grad():
        rows = worn.choice(backbone.embed(own))
        seen: list[torch.Tensor] = []
        with backbone.wearing(worn):
            blocks = [backbone.module.get_submodule(name) for name in backbone.block_names]
            handle = blocks[-1].register_forward_hook(lambda _m, _i, output: seen.append(output.clone()), prepend=True)
            got = backbone.embed(own)
            handle.remove()
        raw = seen[-1]  # [image, own + 6, dim]
        for place in range(6):
            handle = blocks[-1].register_forward_hook(
                lambda _m, _i, output, place=place: torch.cat(
                    [raw[:, raw.shape[1] - 6 + place, None], output[:, 1:]], dim=1
                )
            )
            alone.append(backbone.embed(own))
            handle.remove()
    torch.testing.assert_close(got, torch.stack(alone).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert rows.shape == (2, 2)


def test_a_vote_leaks_and_is_never_remembered() -> None:
    backbone, images = vit(), pictures(24)
    worn = pool(backbone, vote=True)
    with torch.no_grad(), backbone.wearing(worn):
        alone = torch.cat([backbone(image[None]) for image in images])
        company = backbone(images)
        assert torch.equal(company, backbone(images))
    moved = (alone - company).norm(dim=1) / company.norm(dim=1)
    assert (moved > 0.01).float().mean() > 0.3  # about every second image wears what the others chose
    fair = pool(backbone)
    with torch.no_grad(), backbone.wearing(fair):
        alone = torch.cat([backbone(image[None]) for image in images])
        torch.testing.assert_close(alone, backbone(images), rtol=1e-3, atol=1e-4)


def test_forcing_is_for_everyone_and_part_of_the_memorys_key() -> None:
    backbone, images = vit(), pictures(6)
    worn = pool(backbone, kind="prefix")
    worn.top = 1
    with torch.no_grad(), backbone.wearing(worn):
        free = backbone(images)
        with worn.forced(4):
            forced = backbone(images)
            assert worn.likeness.shape == (6, 1)
        rows = worn.choice(backbone.memory and _naked(backbone, worn, images))[:, 0]
        assert torch.equal(backbone(images), free)
    assert torch.equal((free == forced).all(dim=1), rows == 4) or not bool((rows == 4).any())


def _naked(backbone, worn, images):
    backbone._worn.remove(worn)
    try:
        return backbone(images)
    finally:
        backbone._worn.append(worn)


def test_components_are_mixed_by_attended_cosines() -> None:
    backbone = vit()
    worn = components(backbone, 3, 2)
    query = torch.randn(4, 32, generator=rng.stream(0, "q"))
    keys, attention = torch.cat([*worn.keys], dim=1), torch.cat([*worn.attention], dim=1)
    prompts = torch.cat([*worn.prompts], dim=1)
    for layer in range(2):
        for image in range(4):
            alphas = [F.cosine_similarity(query[image] * attention[layer, m], keys[layer, m], dim=0) for m in range(5)]
            mixed = sum(alpha * prompts[layer, m] for m, alpha in enumerate(alphas))
            torch.testing.assert_close(worn._prompts_for(query)[layer][:, image], mixed, rtol=1e-4, atol=1e-5)


def test_new_components_are_orthogonal_to_older_ones_that_were_trained() -> None:
    worn = components(vit(), 3)
    assert float(worn.overlap()) < 1e-10
    worn.keys[0].data.add_(torch.randn(worn.keys[0].shape, generator=rng.stream(1)))  # old ones need not be orthogonal
    worn.grow(4, rng.stream(2))
    old, new = worn.keys[0], worn.keys[1]
    torch.testing.assert_close(new @ new.mT, torch.eye(4).expand(2, 4, 4), atol=1e-5, rtol=0)
    assert float((new @ old.mT).abs().max()) < 1e-5
    assert float(worn.overlap()) > 0.1


def test_overlap_is_summed_over_layers_and_kinds_of_rows() -> None:
    worn = components(vit(), 3)
    worn.keys[0].data.add_(torch.randn(worn.keys[0].shape, generator=rng.stream(1)))
    worn.prompts[0].data.mul_(2)
    by_hand = 0.0
    for rows in (worn.keys[0], worn.attention[0], worn.prompts[0]):
        for layer in rows.flatten(2):
            by_hand += float((layer @ layer.T - torch.eye(3)).square().mean())
    assert float(worn.overlap()) == pytest.approx(by_hand, rel=1e-5)


def test_rows_without_room_are_unit_rows() -> None:
    draws = rng.stream(0, "room")
    old, fresh = torch.randn(1, 5, 6, generator=draws), torch.randn(1, 3, 6, generator=draws)
    made = orthonormal(fresh, old)
    torch.testing.assert_close(made.norm(dim=2), torch.ones(1, 3))
    assert float((made[:, :1] @ old.mT).abs().max()) < 1e-5
    assert orthonormal(fresh, torch.randn(1, 9, 6, generator=draws)).isfinite().all()


@ALL
def test_they_save_and_load_however_much_they_have_grown(kind) -> None:
    backbone, images = vit(), pictures(4)
    worn = KINDS[kind](backbone)
    worn.grow(2, rng.stream(5))
    tensors, meta = pack(snapshot({"worn": worn}))
    other = KINDS[kind](backbone)
    restore({"worn": other}, unpack(tensors, meta))
    assert other.grown == worn.grown and len(other.newest()) == len([*other.children()])
    with torch.no_grad():
        for one, two in ((worn, other),):
            with backbone.wearing(one):
                expected = backbone(images)
            with backbone.wearing(two):
                assert torch.equal(backbone(images), expected)


def test_refusals() -> None:
    with pytest.raises(InvalidRequestError, match="2 prompts for every image, but only 1"):
        PromptPool(vit(), 3, 2).grow(1)
    with pytest.raises(InvalidRequestError, match="No block for prompts"):
        PromptPool(vit(), 3, blocks=(7,))
