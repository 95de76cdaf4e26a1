"""cillab: class-incremental learning with pre-trained models, seen through neural collapse.

    stream = cillab.stream("shields", split="B0-Inc10")
    backbone = cillab.backbone("bundled:vit")
    learner = cillab.learner("min", backbone)
    for step in cillab.Lab(stream, learner, out="runs/first"):
        print(step.task, step.accuracy.seen, step.collapse.nc1)

Names are imported when first used: reading a run and drawing its figures never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cillab.core.imports import load_no_compiler
from cillab.core.threads import settle

settle()  # before torch and NumPy read their environment
load_no_compiler()  # before timm and torchvision do

__version__ = "0.1.0"

_WHERE = {
    "stream": ("cillab.streams.stream", "make_stream"),
    "backbone": ("cillab.backbones", "make_backbone"),
    "learner": ("cillab.learners", "make_learner"),
    "Lab": ("cillab.lab.engine", "Lab"),
    "Run": ("cillab.runs", "Run"),
    "figures": ("cillab.figures", None),
    "geometry": ("cillab.geometry", None),
}
__all__ = ["Lab", "Run", "__version__", "backbone", "figures", "geometry", "learner", "stream"]

if TYPE_CHECKING:
    from cillab import figures, geometry
    from cillab.backbones import make_backbone as backbone
    from cillab.lab.engine import Lab
    from cillab.learners import make_learner as learner
    from cillab.runs import Run
    from cillab.streams.stream import make_stream as stream


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cillab' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = import_module(module) if attribute is None else getattr(import_module(module), attribute)
    globals()[name] = value  # the next access is a plain look-up
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
