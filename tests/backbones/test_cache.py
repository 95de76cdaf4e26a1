"""The memory of features: what changes the key, what does not, and what damage and rivals do to the folder."""

import threading

import pytest
import torch

from cillab.backbones import AdapterSlot, FeatureMemory, Overlay, Slots
from cillab.backbones.cache import FeatureKey, TensorDigests, image_digests
from cillab.core import rng
from tests.backbones.models import pictures, vit

KEY = FeatureKey("weights", (), "transform", "fp32")


class Counting:
    """Counts the images that a backbone forwards."""

    def __init__(self, backbone) -> None:
        self.images = 0
        original = backbone._forward

        def forward(pixels):
            self.images += len(pixels)
            return original(pixels)

        backbone._forward = forward


def test_an_image_is_forwarded_once_whatever_its_company() -> None:
    backbone, images = vit(), pictures(12)
    counter = Counting(backbone)
    with torch.no_grad():
        first = backbone(images[:8])
        again = backbone(torch.cat([images[4:], images[:4], images[:1]]))  # other order, new ones, a repetition
        assert torch.equal(again[:4], first[4:])
        assert torch.equal(again[8:12], first[:4])
        assert torch.equal(again[12], first[0])
    assert counter.images == 12
    fresh = vit()
    with torch.no_grad():
        assert torch.equal(fresh(images[4:]), again[:8])


def test_grad_mode_and_taps_bypass_it() -> None:
    backbone, images = vit(), pictures(3)
    counter = Counting(backbone)
    with torch.no_grad():
        backbone(images)
        backbone(images)
    assert counter.images == 3
    overlay = Overlay(backbone, "norm.weight").requires_grad_()
    with backbone.wearing(overlay):
        backbone(images).sum().backward()
    assert next(overlay.parameters()).grad.abs().sum() > 0
    assert counter.images == 6
    with torch.no_grad(), backbone.tap("blocks.0") as taken:
        backbone(images)
    assert len(taken["blocks.0"]) == 3
    assert counter.images == 9


def test_an_in_place_change_of_what_is_worn_changes_the_key() -> None:
    backbone, images = vit(), pictures(2)
    slots = Slots(backbone, {"mlp:blocks.0": AdapterSlot(32, 4, generator=rng.stream(0))})
    overlay = Overlay(backbone, "norm.*")
    with torch.no_grad(), backbone.wearing(slots, overlay):
        keys, features = [backbone.feature_key()], [backbone(images)]
        for change in (slots[0].up.weight, slots[0].scale, next(overlay.parameters())):
            change.add_(0.5)
            keys.append(backbone.feature_key())
            features.append(backbone(images))
        assert len({key.digest for key in keys}) == 4
        assert not torch.equal(features[0], features[1])
        assert not torch.equal(features[2], features[3])
        assert backbone.feature_key() == keys[-1]
    assert backbone.feature_key().worn == ()


def test_a_delta_with_nothing_in_it_is_as_good_as_none() -> None:
    backbone = vit()
    with backbone.wearing(Slots(backbone, {})):
        assert backbone.feature_key() == vit().feature_key()


def test_an_optimiser_step_changes_the_key() -> None:
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        backbone = vit()
        overlay = Overlay(backbone, "norm.*").requires_grad_()
        optimiser = kind(overlay.parameters(), lr=0.1)
        with backbone.wearing(overlay):
            before = backbone.feature_key()
            backbone.embed(backbone.pixels(pictures(2))).square().sum().backward()
            optimiser.step()
            assert backbone.feature_key() != before


def test_the_key_knows_transform_precision_order_and_place() -> None:
    backbone = vit()
    plain = backbone.feature_key()
    backbone.preprocessing = backbone.preprocessing.under("pilot_compat")
    assert backbone.feature_key() != plain
    assert vit("bf16").feature_key() != vit().feature_key()
    backbone = vit()
    zero = [Slots(backbone, {f"mlp:blocks.{i}": AdapterSlot(32, 4, generator=rng.stream(0))}) for i in (0, 1)]
    keys = []
    for worn in ([zero[0]], [zero[1]], zero, zero[::-1]):
        with backbone.wearing(*worn):
            keys.append(backbone.feature_key())
    assert len(set(keys)) == 4


def test_digests_are_computed_again_only_after_a_change() -> None:
    digests, tensor = TensorDigests(), torch.zeros(4)
    first = digests.of(tensor)
    assert digests._known[tensor][1] is first is digests.of(tensor)
    tensor.add_(1)
    assert digests.of(tensor) != first
    assert digests.of(torch.zeros(4)) == first
    assert digests.of(torch.zeros(2, 2)) != first
    assert digests.of(torch.zeros(4, dtype=torch.int32)) != first
    with torch.inference_mode():
        assert digests.of(torch.zeros(4)) == first


def test_image_digests_are_of_content_and_shape() -> None:
    images = pictures(3)
    assert image_digests(images) == image_digests(images.clone())
    assert image_digests(images.flip(3).flip(3)) == image_digests(images)
    assert len(set(image_digests(images))) == 3
    assert image_digests(images) != image_digests(images.reshape(3, 3, 16, 64))
    torch.set_num_threads(2)
    many = pictures(20, 256, 256)  # 4 MB: shared among threads
    assert image_digests(many) == [image_digests(image[None])[0] for image in many]
    torch.set_num_threads(1)


def test_features_from_inference_mode_can_be_trained_on() -> None:
    backbone, images = vit(), pictures(3)
    with torch.inference_mode():
        backbone(images[:2])
    with torch.no_grad():
        features = backbone(images)
    probe = torch.nn.Linear(32, 2)
    probe(features).sum().backward()
    assert probe.weight.grad.abs().sum() > 0


def rows(*values: int):
    return lambda missing: torch.tensor([[float(values[i])] for i in missing.tolist()])


def names(*values: int) -> list[bytes]:
    return [value.to_bytes(16, "big") for value in values]


def never(_missing):
    raise AssertionError("asked to compute what is known")


def test_the_least_used_group_goes_first_and_the_limit_holds() -> None:
    memory = FeatureMemory(limit_bytes=4000)
    keys = [FeatureKey(str(i), (), "", "") for i in range(4)]
    wide = torch.zeros(1, 300)
    for key in keys[:3]:
        memory.recall(key, names(1), lambda _: wide)
    memory.recall(keys[0], names(1), never)
    memory.recall(keys[3], names(1), lambda _: wide)
    assert memory.size_bytes <= 4000
    memory.recall(keys[0], names(1), never)  # used most recently, still there
    with pytest.raises(AssertionError, match="asked to compute"):
        memory.recall(keys[1], names(1), never)
    assert torch.equal(memory.recall(KEY, names(5), lambda _: torch.ones(1, 5000)), torch.ones(1, 5000))
    assert memory.size_bytes <= 4000


def test_the_folder_serves_a_new_process(tmp_path) -> None:
    first = FeatureMemory(tmp_path)
    assert first.recall(KEY, names(3, 1, 3), rows(3, 1, 3)).flatten().tolist() == [3, 1, 3]
    first.flush()
    assert not list(tmp_path.rglob("*.tmp"))
    second = FeatureMemory(tmp_path)
    assert second.recall(KEY, names(1, 3), never).flatten().tolist() == [1, 3]
    with pytest.raises(AssertionError, match="asked to compute"):
        FeatureMemory(tmp_path).recall(FeatureKey("other", (), "transform", "fp32"), names(1), never)


def test_features_of_a_dressed_backbone_stay_in_memory(tmp_path) -> None:
    memory = FeatureMemory(tmp_path)
    memory.recall(FeatureKey("weights", ("slot",), "transform", "fp32"), names(1), rows(1))
    memory.flush()
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_is_ignored_and_written_again(tmp_path, damage: str) -> None:
    first = FeatureMemory(tmp_path)
    first.recall(KEY, names(1, 2), rows(1, 2))
    first.flush()
    (path,) = tmp_path.rglob("*.safetensors")
    data = path.read_bytes()  # ends with the features and then 2 digests of 16 bytes
    path.write_bytes(
        {
            "cut": data[:-3],
            "flip": data[:-33] + bytes([data[-33] ^ 1]) + data[-32:],
            "empty": b"",
            "text": b"no tensors",
        }[damage]
    )
    second = FeatureMemory(tmp_path)
    assert second.recall(KEY, names(1, 2), rows(1, 2)).flatten().tolist() == [1, 2]
    second.flush()
    assert FeatureMemory(tmp_path).recall(KEY, names(1, 2), never).flatten().tolist() == [1, 2]


def test_several_writers_share_a_folder(tmp_path) -> None:
    def write(own: int) -> None:
        memory = FeatureMemory(tmp_path)
        for value in range(20):
            memory.recall(KEY, names(value, 100 + own), rows(value, 100 + own))
            memory.flush()

    threads = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [*range(20), 100, 101, 102, 103]
    assert FeatureMemory(tmp_path).recall(KEY, names(*wanted), never).flatten().tolist() == wanted


def test_a_full_disk_does_not_stop_anybody(tmp_path, monkeypatch) -> None:
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cillab.backbones.cache.save_file", full)
    memory = FeatureMemory(tmp_path)
    memory.recall(KEY, names(1), rows(1))
    memory.flush()
    assert memory.recall(KEY, names(1), never).item() == 1
    assert not list(tmp_path.rglob("*.tmp"))
