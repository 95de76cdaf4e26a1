"""A classifier whose rows are class names in the joint space of images and text."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.backbones.clip import ClipBackbone
from cillab.backbones.prompts import TextPrompt
from cillab.backbones.text import encode_classes, sentences_of
from cillab.core.contract import Backbone, Head, Task
from cillab.core.errors import IncompatibleError
from cillab.parts.heads import with_new
from cillab.parts.module import Classifier, empty


@final
class TextHead(Classifier):
    """logits = s cos(v, g_c), with one unit vector g_c per class seen and CLIP's own scale s.

    g_c is the prototype of a soft prompt, u_c the frozen one of a hand template. Both are encoded once per change and
    kept, so that classifying costs no text pass and a checkpoint gives the same bits. Holds 2 d numbers per class.
    """

    plain = ("classes", "names", "task_of")
    frozen: Tensor
    prototypes: Tensor

    def __init__(self, backbone: Backbone, templates: Sequence[str], prompt: TextPrompt | None = None) -> None:
        """Empty: no class is known.

        Raises:
            IncompatibleError: the backbone has no text side.
        """
        super().__init__()
        if not isinstance(backbone, ClipBackbone):
            raise IncompatibleError(f"{backbone.tag} has no text side: use bundled:clip or openclip:MODEL/TAG.")
        self.backbone, self.templates = backbone, tuple(templates)
        self._prompt = (prompt,)  # in a tuple: a part of the learner, not of this one
        self.scale = backbone.logit_scale
        self.names: tuple[str, ...] = ()
        self.task_of: tuple[int, ...] = ()  # row of the task tokens that a class is written with
        for name in ("frozen", "prototypes"):
            self.register_buffer(name, empty(0, backbone.feature_dim, device=backbone.device))

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse class names that `grow` would refuse: before the first task instead of before theirs.

        Raises:
            InvalidRequestError: the first that is too long for the text side. CillabError: there is no tokeniser.
        """
        assert isinstance(self.backbone, ClipBackbone)
        self.backbone.check_texts(sentences_of(names, self.templates))
        if self.prompt is not None and names:
            self.prompt.sentences(names)

    @property
    def prompt(self) -> TextPrompt | None:
        """What the prototypes are written with, if it is not the hand template."""
        return self._prompt[0]

    def grow(self, arriving: tuple[int, ...], names: Mapping[int, str] | None = None, row: int = 0) -> None:
        """Add the classes that are new, called as `names` says and written with row `row` of the task tokens."""
        classes = with_new(self.classes, arriving)
        fresh = tuple((names or {})[c] for c in classes[len(self.classes) :])
        self.classes, self.names = classes, self.names + fresh
        self.task_of += (row,) * len(fresh)
        with torch.no_grad():
            self.frozen = torch.cat([self.frozen, encode_classes(self.backbone, fresh, self.templates)])
        self.refresh()

    def arrive(self, task: Task) -> None:
        """The names of the classes of `task` that are new."""
        self.grow(task.classes, task.class_names)

    def refresh(self) -> None:
        """Encode the prototypes anew: after every change of the prompt."""
        with torch.no_grad():
            self.prototypes = self.frozen.clone() if self.prompt is None else self.encode()

    def encode(self) -> Float[Tensor, "cls feature"]:
        """Fresh prototypes of all classes, with gradient to the prompt if it asks for one."""
        assert self.prompt is not None, "a head without a prompt has only frozen prototypes"
        return self.prompt.prototypes(self.names, self.task_of)

    def forward(
        self, features: Float[Tensor, "image feature"], rows: Float[Tensor, "cls feature"] | None = None
    ) -> Float[Tensor, "image cls"]:
        """Scaled cosines s cos(v, row), for the kept prototypes or for `rows`."""
        return self.scale * F.normalize(features, dim=-1) @ (self.prototypes if rows is None else rows).T

    def rows(self) -> Head:
        """The prototypes."""
        return Head(self.prototypes, None)

    def columns(self, classes: Sequence[int]) -> Int64[Tensor, " cls"]:
        """Their columns."""
        places = [self.classes.index(c) for c in classes]
        return torch.tensor(places, dtype=torch.int64, device=self.prototypes.device)
