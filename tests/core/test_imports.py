"""No command loads torch's compiler to import a model; what was put off works when it is asked."""

import subprocess
import sys

CODE = """
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


def test_models_are_imported_without_a_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr
