"""No command loads torch's compiler to import a model, nor models nobody asked for; what waits works when asked."""

import subprocess
import sys

COMPILER = """
import sys
import cillab
import cillab.lab.prepare, cillab.backbones.bundled, cillab.backbones.clip, cillab.learners
assert "torch._dynamo" not in sys.modules and "triton" not in sys.modules
import torch
from torchvision.ops import roi_align
from timm.layers import disable_compiler
assert disable_compiler(lambda x: x + 1)(1) == 2 and "torch._dynamo" in sys.modules
assert roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0]]), 1).item() == 1
assert torch.compiler.disable.__module__ == "torch.compiler" and torch._dynamo.utils.counters is not None
print("good")
"""
FIRST_IMAGE = """
import os, sys
from cillab.backbones.frozen import FrozenBackbone
UNASKED = ("open_clip.model", "timm.models.beit", "torchvision.models.resnet", "torchvision.datasets.mnist",
           "scipy.special", "scipy.fft", "sklearn", "plotly", "pandas", "pyarrow", "torch._dynamo",
           "cillab.learners.min", "cillab.figures")
def embed(backbone, pixels):
    print("too much:", [name for name in UNASKED if name in sys.modules], flush=True)
    os._exit(0)
FrozenBackbone._embed = embed
sys.argv = ["cillab", "run", "--learner", "simplecil", "--data", "shields", "--train-per-class", "2",
            "--test-per-class", "1", "--out", sys.argv[1]]
from cillab.__main__ import main
main()
"""
LATE = """
import sys
import cillab
import timm.models.vision_transformer
import timm, open_clip, torchvision, torch
assert "timm.models.beit" not in sys.modules and "open_clip.model" not in sys.modules
assert timm.__version__ and open_clip.__version__ and "timm.models.beit" not in sys.modules
from timm.data import IMAGENET_DEFAULT_MEAN
assert len(IMAGENET_DEFAULT_MEAN) == 3 and "timm.data.dataset" not in sys.modules
assert timm.create_model("beit_base_patch16_224", pretrained=False, depth=1).num_classes == 1000
assert "ViT-B-16" in open_clip.list_models() and timm.models.beit.Beit and timm.data.create_dataset
assert torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5).tolist() == [0]
assert torchvision.transforms.Resize and torchvision.models.resnet18 and not hasattr(timm, "no_such_name")
print("good")
"""
ABOUT = """
import cillab
import timm.models.vision_transformer
import timm, open_clip, torchvision
assert torchvision.__version__ and timm.__version__ and open_clip.__version__
for package, name in ((timm, "create_model"), (timm.models, "beit_base_patch16_224"), (timm.data, "create_loader"),
                      (torchvision.models, "resnet18"), (torchvision.ops, "nms"), (open_clip, "create_model")):
    assert name in dir(package), (package, name)
print("good")
"""
KEEP = """
from cillab.lab import offer
offer.keep()
"""


def said(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_are_imported_without_a_compiler() -> None:
    assert said(COMPILER) == "good\n"


def test_packages_that_wait_are_whole_when_they_are_asked() -> None:
    assert said(LATE) == "good\n"


def test_packages_that_wait_say_their_version_and_their_names() -> None:
    """Other libraries ask for `torchvision.__version__`, and whoever presses Tab in a notebook asks for `dir`."""
    assert said(ABOUT) == "good\n"


def test_a_run_reaches_its_first_image_without_what_it_does_not_need(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path / "cache"))
    said(KEEP)  # else the first run of a version lists all learners, for refusals
    assert said(FIRST_IMAGE, str(tmp_path / "run")).splitlines()[-1] == "too much: []"
