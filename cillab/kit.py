"""What authors of methods import: the base, the record of a stage, the parts, the losses.

from cillab.kit import HyperParams, Method, Prototypes, Task, gathered, method
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from cillab.backbones.affine import Affine
from cillab.backbones.lora import LoRA
from cillab.backbones.overlay import Overlay, norms
from cillab.backbones.prefixed import PrefixSlot
from cillab.backbones.prompts import TextPrompt, TextTower
from cillab.backbones.slot import TokenSlot
from cillab.backbones.slots import AdapterSlot, PromptSlot, Slot, Slots
from cillab.core import rng
from cillab.core.contract import Backbone, Conditional, Delta, Head, Part, Progress, State, Task
from cillab.core.errors import CillabError, IncompatibleError, InvalidRequestError, NotObservedError
from cillab.core.internals import Internal
from cillab.core.params import HyperParams
from cillab.parts.adapting import adapters, prompts
from cillab.parts.anchors import Importance, MovingAverage, fisher, frozen_copy, spring
from cillab.parts.exemplars import Exemplars, ExemplarTask, Reservoir, herded
from cillab.parts.fitting import Fit, attention_for, augmentation, augmented, descend, sweep, views
from cillab.parts.gaussian_head import Gaussian
from cillab.parts.gaussian_memory import Covariance, GaussianMemory
from cillab.parts.heads import Cosine, Frame, Linear, Prototypes, Table, columns_of, undecayed, with_new
from cillab.parts.least_squares import LDA, FourierFeatures, RandomFeatures, Ridge
from cillab.parts.losses import Competitors, cross_entropy, distillation, pull_push
from cillab.parts.lowrank import Branches, low_rank, measured
from cillab.parts.method import Method, fit, gathered, method, viewed
from cillab.parts.module import Classifier, ModulePart, Roster, empty
from cillab.parts.pools import ComponentPool, PromptPool
from cillab.parts.prompting import PromptParams, balanced_cross_entropy, deep_prompt, make_prompt, shuffled
from cillab.parts.set_attention import SetAttention
from cillab.parts.stages import align, first_session, keep_exemplars
from cillab.parts.subspaces import Directions, FrequentDirections, leading_left
from cillab.parts.text_head import TextHead
from cillab.parts.wardrobe import Wardrobe

__all__ = [
    "LDA",
    "AdapterSlot",
    "Affine",
    "Backbone",
    "Branches",
    "CillabError",
    "Classifier",
    "Competitors",
    "ComponentPool",
    "Conditional",
    "Cosine",
    "Covariance",
    "Delta",
    "Directions",
    "ExemplarTask",
    "Exemplars",
    "F",
    "Field",
    "Fit",
    "Float",
    "FourierFeatures",
    "Frame",
    "FrequentDirections",
    "Gaussian",
    "GaussianMemory",
    "Generator",
    "Head",
    "HyperParams",
    "Importance",
    "IncompatibleError",
    "Int64",
    "Internal",
    "InvalidRequestError",
    "Iterator",
    "Linear",
    "Literal",
    "LoRA",
    "Mapping",
    "Method",
    "ModulePart",
    "MovingAverage",
    "NonNegativeFloat",
    "NonNegativeInt",
    "NotObservedError",
    "Overlay",
    "Part",
    "PositiveFloat",
    "PositiveInt",
    "PrefixSlot",
    "Progress",
    "PromptParams",
    "PromptPool",
    "PromptSlot",
    "Prototypes",
    "RandomFeatures",
    "Reservoir",
    "Ridge",
    "Roster",
    "SetAttention",
    "Slot",
    "Slots",
    "State",
    "Table",
    "Task",
    "Tensor",
    "TextHead",
    "TextPrompt",
    "TextTower",
    "TokenSlot",
    "UInt8",
    "Wardrobe",
    "adapters",
    "align",
    "attention_for",
    "augmentation",
    "augmented",
    "balanced_cross_entropy",
    "columns_of",
    "cross_entropy",
    "deep_prompt",
    "descend",
    "distillation",
    "empty",
    "final",
    "first_session",
    "fisher",
    "fit",
    "frozen_copy",
    "gathered",
    "herded",
    "keep_exemplars",
    "leading_left",
    "low_rank",
    "make_prompt",
    "measured",
    "method",
    "model_validator",
    "nn",
    "norms",
    "prompts",
    "pull_push",
    "rng",
    "shuffled",
    "spring",
    "sweep",
    "torch",
    "undecayed",
    "viewed",
    "views",
    "with_new",
]
