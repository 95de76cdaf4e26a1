"""What the notebooks need beside the library: checks for exercises, small plots, features of a frozen backbone.

A check takes a function that the reader wrote and says what is right or what to look at again. Importing this package
loads no torch; names that need it, or a widget library, are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cillab.teaching import sketch
from cillab.teaching.alignment import check_draw, check_pull_push, check_safe_angle
from cillab.teaching.analytic import check_passes, check_recursion, check_ridge
from cillab.teaching.forgetting import check_backward_transfer, check_pull, check_three_parts
from cillab.teaching.frames import check_rotation, check_turn, check_vertices
from cillab.teaching.joint_space import check_confidence, check_ensemble, check_gap
from cillab.teaching.looking import check_cam, check_difference, check_energy
from cillab.teaching.measuring import check_angle_deviation, check_angle_floor, check_unbiased_quotient
from cillab.teaching.noise import check_folded, check_mixture, check_shift
from cillab.teaching.own_data import check_census, check_row
from cillab.teaching.pairing import Paired, paired, share_error
from cillab.teaching.places import fresh
from cillab.teaching.plane import clouds, tiles
from cillab.teaching.pretrained import check_lda, check_merge, check_nearest_mean
from cillab.teaching.three_dimensions import check_feature_gradient, check_mean_cosine
from cillab.teaching.tour import check_etf_cosine, check_forgetting, check_summaries
from cillab.teaching.toy import Toy, simulate
from cillab.teaching.transporting import check_separation, check_transport_map, check_w2
from cillab.teaching.verdict import Verdict

if TYPE_CHECKING:
    from cillab.teaching.frozen import Frozen, frozen_features
    from cillab.teaching.playing import Player, player

_LATER = {
    "Frozen": "cillab.teaching.frozen",
    "Player": "cillab.teaching.playing",
    "frozen_features": "cillab.teaching.frozen",
    "player": "cillab.teaching.playing",  # needs anywidget
}

__all__ = [
    "Frozen",
    "Paired",
    "Player",
    "Toy",
    "Verdict",
    "check_angle_deviation",
    "check_angle_floor",
    "check_backward_transfer",
    "check_cam",
    "check_census",
    "check_confidence",
    "check_difference",
    "check_draw",
    "check_energy",
    "check_ensemble",
    "check_etf_cosine",
    "check_feature_gradient",
    "check_folded",
    "check_forgetting",
    "check_gap",
    "check_lda",
    "check_mean_cosine",
    "check_merge",
    "check_mixture",
    "check_nearest_mean",
    "check_passes",
    "check_pull",
    "check_pull_push",
    "check_recursion",
    "check_ridge",
    "check_rotation",
    "check_row",
    "check_safe_angle",
    "check_separation",
    "check_shift",
    "check_summaries",
    "check_three_parts",
    "check_transport_map",
    "check_turn",
    "check_unbiased_quotient",
    "check_vertices",
    "check_w2",
    "clouds",
    "fresh",
    "frozen_features",
    "paired",
    "player",
    "share_error",
    "simulate",
    "sketch",
    "tiles",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'cillab.teaching' has no attribute {name!r}")
