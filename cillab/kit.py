"""What authors of methods import: the base, the record of a stage, the parts, the losses.

from cillab.kit import HyperParams, Method, Prototypes, Task, gathered, method
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from copy import deepcopy
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
from cillab.core.arrays import double, sent
from cillab.core.contract import Backbone, Conditional, Delta, Head, Part, Progress, State, Task
from cillab.core.errors import CillabError, IncompatibleError, InvalidRequestError, NotObservedError
from cillab.core.internals import Internal
from cillab.core.params import HyperParams
from cillab.parts.adapting import PrefixParams, adapters, prefixes, prompts
from cillab.parts.anchors import Importance, MovingAverage, fisher, frozen_copy, spring
from cillab.parts.drifting import Drifting, DriftingParams
from cillab.parts.exemplars import Exemplars, ExemplarTask, Reservoir, herded
from cillab.parts.fitting import Fit, attention_for, augmentation, augmented, descend, shuffled, sweep, views
from cillab.parts.gaussian_head import Gaussian
from cillab.parts.gaussian_memory import Covariance, GaussianMemory
from cillab.parts.heads import Averaged, Cosine, Linear, Prototypes, Table, columns_of, undecayed, with_new
from cillab.parts.held import Held, HeldParams
from cillab.parts.least_squares import LDA, FourierFeatures, RandomFeatures, Ridge
from cillab.parts.losses import Competitors, contrast, cross_entropy, distillation, opposed, pull_push, with_margin
from cillab.parts.lowrank import Branches, low_rank, measured
from cillab.parts.maps import LinearMap, Projections, ResidualMap
from cillab.parts.method import Method, each_epoch, fit, gathered, method, revisit, viewed
from cillab.parts.module import Classifier, ModulePart, Roster, empty
from cillab.parts.per_task import Circle, Subspaces, Turned
from cillab.parts.pools import ComponentPool, PromptPool
from cillab.parts.prompting import PromptParams, balanced_cross_entropy, deep_prompt, make_prompt
from cillab.parts.set_attention import SetAttention
from cillab.parts.simplex import Simplex, drawn_simplex
from cillab.parts.stages import align, align_head, first_session, fit_features, keep_exemplars
from cillab.parts.subspaces import Adam, Directions, FrequentDirections, SubspaceSteps, leading_left
from cillab.parts.text_head import TextHead
from cillab.parts.wardrobe import Wardrobe

__all__ = [
    "LDA", "Adam", "AdapterSlot", "Affine", "Averaged", "Backbone", "Branches", "Callable", "CillabError", "Circle",
    "Classifier", "Competitors", "ComponentPool", "Conditional", "Cosine", "Covariance", "Delta", "Directions",
    "Drifting", "DriftingParams", "ExemplarTask", "Exemplars", "F", "Field", "Fit", "Float", "FourierFeatures",
    "FrequentDirections", "Gaussian", "GaussianMemory", "Generator", "Head", "Held", "HeldParams", "HyperParams",
    "Importance", "IncompatibleError", "Int64", "Internal", "InvalidRequestError", "Iterator", "Linear", "LinearMap",
    "Literal", "LoRA", "Mapping", "Method", "ModulePart", "MovingAverage", "NonNegativeFloat", "NonNegativeInt",
    "NotObservedError", "Overlay", "Part", "PositiveFloat", "PositiveInt", "PrefixParams", "PrefixSlot", "Progress",
    "Projections", "PromptParams", "PromptPool", "PromptSlot", "Prototypes", "RandomFeatures", "Reservoir",
    "ResidualMap", "Ridge", "Roster", "SetAttention", "Simplex", "Slot", "Slots", "State", "SubspaceSteps", "Subspaces",
    "Table", "Task", "Tensor", "TextHead", "TextPrompt", "TextTower", "TokenSlot", "Turned", "UInt8", "Wardrobe",
    "adapters", "align", "align_head", "attention_for", "augmentation", "augmented", "balanced_cross_entropy",
    "columns_of", "contrast", "cross_entropy", "deep_prompt", "deepcopy", "descend", "distillation", "double",
    "drawn_simplex", "each_epoch", "empty", "final", "first_session", "fisher", "fit", "fit_features", "frozen_copy",
    "gathered", "herded", "keep_exemplars", "leading_left", "low_rank", "make_prompt", "measured", "method",
    "model_validator", "nn", "norms", "opposed", "prefixes", "prompts", "pull_push", "revisit", "rng", "sent",
    "shuffled", "spring", "sweep", "torch", "undecayed", "viewed", "views", "with_margin", "with_new",
]  # fmt: skip
