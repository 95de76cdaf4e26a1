"""A classifier whose rows are class names in the joint space of images and text."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.backbones.clip import ClipBackbone
from cillab.backbones.prompts import TextPrompt
from cillab.backbones.text import encode_classes
from cillab.core.contract import Backbone, Head, Part, State, Task
from cillab.core.errors import IncompatibleError
from cillab.parts.heads import with_new


@final
class TextHead(Part):
    """logits = s cos(v, g_c), with one unit vector g_c per class seen and CLIP's own scale s.

    g_c is the prototype of a soft prompt, u_c the frozen one of a hand template. Both are encoded once per change and
    kept, so that classifying costs no text pass and a checkpoint gives the same bits. Holds 2 d numbers per class.
    """

    def __init__(self, backbone: Backbone, templates: Sequence[str], prompt: TextPrompt | None = None) -> None:
        """Empty: no class is known.

        Raises:
            IncompatibleError: the backbone has no text side.
        """
        if not isinstance(backbone, ClipBackbone):
            raise IncompatibleError(f"{backbone.tag} has no text side: use bundled:clip or openclip:MODEL/TAG.")
        self.backbone, self.templates, self.prompt = backbone, tuple(templates), prompt
        self.scale = backbone.logit_scale
        self.classes: tuple[int, ...] = ()
        self.names: tuple[str, ...] = ()
        self.task_of: tuple[int, ...] = ()  # row of the task tokens that a class is written with
        empty = torch.zeros(0, backbone.feature_dim, device=backbone.device)
        self.frozen, self.prototypes = empty, empty.clone()

    def grow(self, task: Task, row: int = 0) -> None:
        """Add the classes of `task` that are new, written with row `row` of the task tokens."""
        classes = with_new(self.classes, task.classes)
        arriving = classes[len(self.classes) :]
        names = tuple(task.class_names[c] for c in arriving)
        self.classes, self.names = classes, self.names + names
        self.task_of += (row,) * len(arriving)
        with torch.no_grad():
            self.frozen = torch.cat([self.frozen, encode_classes(self.backbone, names, self.templates)])
        self.refresh()

    def refresh(self) -> None:
        """Encode the prototypes anew: after every change of the prompt."""
        with torch.no_grad():
            self.prototypes = self.frozen.clone() if self.prompt is None else self.encode()

    def encode(self) -> Float[Tensor, "cls feature"]:
        """Fresh prototypes of all classes, with gradient to the prompt if it asks for one."""
        assert self.prompt is not None, "a head without a prompt has only frozen prototypes"
        return self.prompt.prototypes(self.names, self.task_of)

    def __call__(
        self, features: Float[Tensor, "image feature"], rows: Float[Tensor, "cls feature"] | None = None
    ) -> Float[Tensor, "image cls"]:
        """Scaled cosines s cos(v, row), for the kept prototypes or for `rows`."""
        return self.scale * F.normalize(features, dim=-1) @ (self.prototypes if rows is None else rows).T

    def head(self) -> Head:
        """The prototypes."""
        return Head(self.prototypes, None)

    def columns(self, classes: Sequence[int]) -> Int64[Tensor, " cls"]:
        """Their columns."""
        return torch.tensor([self.classes.index(c) for c in classes], device=self.prototypes.device)

    def state(self) -> State:
        """Prototypes, names and class ids."""
        meta = {"classes": list(self.classes), "names": list(self.names), "task_of": list(self.task_of)}
        return State({"frozen": self.frozen, "prototypes": self.prototypes}, meta)

    def load(self, state: State) -> None:
        """Take over everything, without encoding anything."""
        self.classes, self.names = tuple(state.meta["classes"]), tuple(state.meta["names"])
        self.task_of = tuple(state.meta["task_of"])
        self.frozen = state.tensors["frozen"].clone().to(self.backbone.device)
        self.prototypes = state.tensors["prototypes"].clone().to(self.backbone.device)
