"""Words of the glossary on the pages: which quantities a figure shows, and each in one line."""

from collections.abc import Mapping

from cillab import glossary

# Figures and the quantities they show, by their keys in the glossary.
QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("a_seen", "a_avg", "a_last"),
    "accuracy_matrix": ("a_seen_task_mean", "learning_accuracy"),
    "angle_blocks": ("blocks", "ideal_cosine"),
    "angles": ("equiangularity", "maximal_angle", "ideal_cosine"),
    "calibration": ("calibration_error",),
    "class_collapse": ("nc1_quotient", "nc3", "nc4"),
    "collapse": ("nc1_pinv", "equinorm", "equiangularity", "nc3", "nc4"),
    "confusion": ("prediction_bias",),
    "cosine": ("ideal_cosine", "maximal_angle"),
    "drift": ("cosine_drift",),
    "epochs": ("nc1_quotient", "simplex_gram_distance", "nc3", "nc4", "growth_angle"),
    "forgetting": ("forgetting_chaudhry",),
    "generalised": ("generalised_nc2",),
    "gram": ("simplex_gram_distance", "equinorm", "ideal_cosine"),
    "on_object": ("energy_inside", "pointing_game"),
    "prototypes": ("prototype_gap",),
    "retention": ("probe_retention", "split_forgetting"),
    "sides": ("nc1_quotient", "cdnv", "equinorm", "maximal_angle", "nc3", "nc4"),
    "similarity": (
        "sample_drift", "bures_wasserstein", "procrustes_distance", "linear_cka", "subspace_overlap",
    ),
    "spectrum": ("effective_rank", "participation_ratio", "top_eigenvalue_share"),
    "text_similarity": ("effective_rank",),
    "transport": ("bures_wasserstein",),
    "variability": ("cdnv",),
    "variants": (
        "a_last", "a_avg", "a_seen_task_mean", "learning_accuracy", "bwt_gem", "bwt_all", "forgetting_chaudhry",
        "forgetting_pilot", "performance_drop", "task_decomposition",
    ),
}  # fmt: skip

BETTER = {"lower": "lower is better", "higher": "higher is better", "neither": "neither way is better"}


def line(key: str) -> str:
    """One quantity in one line, for a tooltip: name, what it is, which way is better. Markdown, marks escaped.

    Raises:
        KeyError: the glossary has no such quantity.
    """
    one = glossary.entry(key)
    return f"**{_escaped(one.name)}**: {_escaped(one.summary)} {_escaped(_sentence(BETTER[one.better]))}"


def tip(figure: str) -> str | None:
    """The tooltip of a figure: a line for each quantity it shows, or None."""
    keys = QUANTITIES.get(figure, ())
    return "\n\n".join(map(line, keys[:6])) or None


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _escaped(text: str) -> str:
    """Formulas are full of marks that Markdown would read."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>$~|#:" else c for c in text)
