"""The papers' sizes with random weights: shapes, parameter counts, and one step of every stage."""

import open_clip
import pytest
import timm
import torch

from cillab.backbones.clip import ClipBackbone, clip_anatomy
from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.contract import Backbone, Learner, Task
from cillab.core.pixels import Preprocessing
from cillab.lab.sweep import read_plan
from cillab.learners import make_learner

pytestmark = pytest.mark.slow

HALF = (0.5, 0.5, 0.5)
VIEW = Preprocessing(224, 0.9, "bicubic", HALF, HALF)


class Pictures(Task):
    """Two images of each of two classes at 224 px."""

    index, classes, class_names = 0, (3, 8), {3: "apple", 8: "bicycle"}

    def __len__(self) -> int:
        return 4

    def batches(self, batch_size, shuffle=None):
        images = torch.randint(0, 255, (4, 3, 224, 224), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        labels = torch.tensor([3, 3, 8, 8])
        for chosen in torch.arange(4).split(batch_size):
            yield images[chosen], labels[chosen]


@pytest.fixture(scope="module")
def vit() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0)
    tag = "timm:vit_base_patch16_224.augreg_in21k"
    return TimmBackbone(module, tag=tag, anatomy=timm_anatomy(module, "vit"), preprocessing=VIEW, precision="fp32")


@pytest.fixture(scope="module")
def clip() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("ViT-B-16", pretrained=None)
    return ClipBackbone(
        model, open_clip.get_tokenizer("ViT-B-16"), tag="openclip:ViT-B-16/openai", anatomy=clip_anatomy(model.visual),
        preprocessing=VIEW, precision="fp32",
    )  # fmt: skip


def preset(name: str, row: str) -> dict:
    spec = next(s for r, s in read_plan(f"preset:{name}").rows if r == row)
    return dict(spec.params)


def stages(learner: Learner, **_: object) -> set[str]:
    """Names of the stages that one pass over the tiny task goes through."""
    found = {progress.stage for progress in learner.observe(Pictures())}
    logits = learner.logits(next(iter(Pictures().batches(4)))[0])
    assert logits.shape == (4, 2) and logits.isfinite().all()
    return found


def test_min_has_the_papers_parameters_and_trains(vit) -> None:
    params = preset("min-paper", "CIFAR-100, 10 steps")
    assert params["expansion"] == 16384
    # 64 random features here: R of the full size takes 2.1 GB, and its closed form is tested elsewhere
    learner = make_learner("min", vit, **{**params, "expansion": 64, "epochs": 1, "variant": "paper"})
    for slot in learner.noise:
        slot.grow(torch.ones(1))
    generators = sum(p.numel() for slot in learner.noise for p in slot.generators[-1].parameters())
    assert generators == 889_344
    shared = sum(t.numel() for name, t in learner.worn.tensors().items() if t.shape in ((768, 192), (192, 768)))
    assert shared == 3_538_944
    fresh = make_learner("min", vit, **{**params, "expansion": 64, "epochs": 1})
    assert "noise" in stages(fresh)


def test_ncptm_has_the_parameters_of_section_1_and_trains(vit) -> None:
    learner = make_learner(
        "ncptm", vit, **preset("ncptm-paper", "CIFAR-100, B0-Inc10"), epochs=1, align_epochs=1, views=1
    )
    adapters = sum(p.numel() for p in learner.worn.parameters())
    assert adapters == 12 * (2 * 768 * 64 + 768 + 64) == 1_189_632
    assert sum(p.numel() for p in learner.align.parameters()) == 2 * 768 * 4 * 768 + 4 * 768 + 768
    assert {"adapt", "align"} <= stages(learner)


@pytest.mark.parametrize("name", ["dmc", "dmc-ot", "cpt", "coop", "zeroshot-clip"])
def test_clip_methods_train_one_epoch_at_full_size(clip, name) -> None:
    quick = {"epochs": 1, "text_epochs": 1}
    learner = make_learner(name, clip)
    learner = make_learner(name, clip, **{k: v for k, v in quick.items() if k in type(learner).Params.model_fields})
    assert stages(learner) or name == "zeroshot-clip"
    if name.startswith("dmc"):
        assert sum(t.numel() for t in learner.parts()["worn"].state().tensors.values()) == 294_912
