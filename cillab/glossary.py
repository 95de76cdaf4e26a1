"""Every quantity in one place: what it is, its formula, range, better direction, small samples, source.

The text is read from the docstrings of the functions that compute the quantities, by parsing their source: nothing
is imported but this module, no number is stated twice, and docs/geometry.md and the app's glossary cannot drift from
the code. What a docstring cannot say, a short name and which way is better, stands in `SECTIONS`.
"""

import ast
import inspect
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Better = Literal["lower", "higher", "neither"]

_HOME = Path(__file__).parent
_ABBREVIATED = ("al.", "J.", "Anal.", "Math.", "Comp.", "Vis.", "Expo.", "e.g.", "i.e.", "vs.", "Soc.", "Biometrika.")
_SMALL = re.compile(r"small sample|few |biased|noise of|uncertainty|half-width|n < D|2 samples|Monte-Carlo|two samples")


class Quantity(NamedTuple):
    """Where a quantity is computed and what its docstring cannot say."""

    function: str  # module.function under cillab
    name: str
    symbol: str
    better: Better
    series: tuple[str, ...] = ()  # its names in a run folder, without train/ or test/


class Section(NamedTuple):
    """Quantities of one kind."""

    title: str
    intro: str
    small: str  # said of every quantity of the section that says nothing of its own
    quantities: tuple[Quantity, ...]


@dataclass(frozen=True)
class Entry:
    """One quantity, ready to be shown. `formula` keeps its line breaks, the rest is running text."""

    key: str  # the function's name
    section: str
    name: str
    symbol: str
    summary: str
    formula: str
    range: str
    better: Better
    small_samples: str
    meaning: str  # whatever else one should know
    source: str
    function: str  # importable name
    series: tuple[str, ...]


_SHARE = (
    "A share p of n images is known to +- 1.96 sqrt(p (1 - p) / n); a difference of two such shares to about 1.4 times"
    " that."
)

SECTIONS: tuple[Section, ...] = (
    Section(
        "NC1: spread within classes",
        "h_ic = feature of image i of class c, mu_c = class mean, mu_G = average of the class means, v_c = mean square"
        " distance of class c to its mean. Sigma_W, Sigma_B = covariance within classes and of the class means,"
        " K classes, D dimensions, n_c images of class c.",
        "",
        (
            Quantity("geometry.nc1.nc1_pinv", "NC1", "tr(Sigma_W Sigma_B^+) / K", "lower", ("nc1",)),
            Quantity("geometry.nc1.nc1_svd", "NC1, top K-1 spectrum", "NC1_svd", "lower"),
            Quantity("geometry.nc1.nc1_quotient", "NC1, trace quotient", "tr Sigma_W / tr Sigma_B", "lower",
                     ("nc1_quotient",)),
            Quantity("geometry.nc1.cdnv", "CDNV", "V(a, b)", "lower", ("cdnv",)),
        ),
    ),
    Section(
        "NC2: arrangement of the class means",
        "A simplex equiangular tight frame (ETF) of K vertices has equal lengths and all cosines -1/(K-1).",
        "",
        (
            Quantity("geometry.nc2.equinorm", "Equinorm", "CV of ||mu_c - mu_G||", "lower",
                     ("equinorm", "equinorm_head")),
            Quantity("geometry.nc2.equiangularity", "Equiangularity", "std of cos", "lower", ("equiangular",)),
            Quantity("geometry.nc2.maximal_angle", "Maximal angle", "mean |cos + 1/(K-1)|", "lower", ("max_angle",)),
            Quantity("geometry.nc2.simplex_gram_distance", "Gram distance", "Gram distance", "lower", ("gram",)),
            Quantity("geometry.nc2.generalised_nc2", "Generalised NC2", "GNC2", "lower",
                     ("gnc2_log", "gnc2_log_variance")),
            Quantity("geometry.etf.ideal_cosine", "Simplex cosine", "-1/(K-1)", "neither"),
            Quantity("geometry.etf.growth_angle", "Growth angle", "angle(K1, K2)", "lower"),
        ),
    ),
    Section(
        "NC3 to NC5: the head, the nearest mean, outliers",
        "w_c, b_c = row and bias of the head for class c; W, M = heads and centred means as matrices.",
        "",
        (
            Quantity("geometry.nc3.nc3", "NC3, self-duality", "||W~ - M~||", "lower",
                     ("nc3", "nc3_cosine", "nc3_uniformity")),
            Quantity("geometry.nc3.nc4", "NC4, agreement with the nearest mean", "NC4", "higher", ("nc4",)),
            Quantity("geometry.nc3.nc5", "NC5, orthogonality of outliers", "mean |cos(mu_c, mu_out)|", "lower"),
        ),
    ),
    Section(
        "Companions: how many directions",
        "A feature space that lost its dimensions also has small spread: read NC1 beside these.",
        "",
        (
            Quantity("geometry.spectrum.effective_rank", "Effective rank", "exp H(p)", "neither",
                     ("rank_between", "rank_within")),
            Quantity("geometry.spectrum.participation_ratio", "Participation ratio", "(tr S)^2 / tr S^2", "neither",
                     ("participation_between", "participation_within")),
            Quantity("geometry.spectrum.top_eigenvalue_share", "Top eigenvalue share", "lambda_1 / sum lambda",
                     "neither", ("top_share",)),
        ),
    ),
    Section(
        "When classes arrive in tasks",
        "K_t = classes seen after task t; old = of an earlier task, new = of the newest.",
        "",
        (
            Quantity("geometry.incremental.blocks", "Angle blocks by age", "cos old/old, old/new, new/new", "neither"),
            Quantity("geometry.incremental.prototype_gap", "Stored against measured means", "prototype gap", "lower"),
        ),
    ),
    Section(
        "Drift between two snapshots",
        "f_s, f_t = features of the same images earlier and later; mu_c^s, mu_c^t = class means.",
        "",
        (
            Quantity("geometry.drift.cosine_drift", "Cosine drift of means", "1 - cos", "lower", ("drift/cosine",)),
            Quantity("geometry.drift.relative_drift", "Relative drift of means", "||move|| / spread", "lower",
                     ("drift/relative",)),
            Quantity("geometry.drift.sample_drift", "Drift of single images", "mean 1 - cos", "lower"),
            Quantity("geometry.drift.linear_cka", "Linear CKA", "CKA", "higher"),
            Quantity("geometry.drift.procrustes_distance", "Orthogonal Procrustes", "Procrustes", "lower"),
            Quantity("geometry.drift.subspace_overlap", "Subspace overlap", "mean sigma_i^2", "higher"),
            Quantity("geometry.drift.bures_wasserstein", "Bures-Wasserstein drift", "W2 of Gaussians", "lower"),
            Quantity("geometry.transport.w2_gaussian", "Gaussian W2", "W2", "lower"),
            Quantity("geometry.drift.sliced_wasserstein", "Sliced Wasserstein", "SW2", "lower"),
            Quantity("geometry.drift.head_misalignment", "Head misalignment", "angle(w_c, mu_c - mu_G)", "lower"),
            Quantity("geometry.drift.semantic_drift", "Estimated drift (SDC)", "SDC error", "lower"),
            Quantity("geometry.retention.probe_retention", "Linear-probe retention", "probe retention", "higher"),
            Quantity("geometry.retention.split_forgetting", "Deep and shallow forgetting", "deep + shallow", "lower"),
        ),
    ),
    Section(
        "Accuracy",
        "R[i, j] = accuracy on the test images of task j after learning task i, n_j = their number, T = tasks.",
        _SHARE,
        (
            Quantity("geometry.accuracy.a_seen", "Accuracy on seen classes", "A_i", "higher", ("accuracy/seen",)),
            Quantity("geometry.accuracy.a_seen_task_mean", "Accuracy, mean over tasks", "A_i, by task", "higher"),
            Quantity("geometry.accuracy.a_last", "Last accuracy", "A_last", "higher"),
            Quantity("geometry.accuracy.a_avg", "Average incremental accuracy", "A_avg", "higher"),
            Quantity("geometry.accuracy.forgetting_chaudhry", "Forgetting (Chaudhry)", "F", "lower"),
            Quantity("geometry.accuracy.forgetting_pilot", "Forgetting (PILOT, Mammoth)", "F_pilot", "lower"),
            Quantity("geometry.accuracy.bwt_gem", "Backward transfer (GEM)", "BWT", "higher"),
            Quantity("geometry.accuracy.bwt_all", "Backward transfer, whole run", "BWT_all", "higher"),
            Quantity("geometry.accuracy.fwt_gem", "Forward transfer (GEM)", "FWT", "higher"),
            Quantity("geometry.accuracy.intransigence", "Intransigence", "I_k", "lower"),
            Quantity("geometry.accuracy.learning_accuracy", "Learning accuracy", "LA", "higher"),
            Quantity("geometry.accuracy.harmonic", "Harmonic mean", "A_h", "higher"),
            Quantity("geometry.accuracy.performance_drop", "Performance drop", "PD", "lower"),
            Quantity("geometry.accuracy.mtil", "Transfer, Avg, Last", "MTIL", "higher"),
            Quantity("geometry.accuracy.a_auc", "Area under the accuracy curve", "A_AUC", "higher"),
            Quantity("geometry.predictions.prediction_bias", "Bias to new classes", "new - old", "neither"),
            Quantity("geometry.predictions.task_decomposition", "Right task, right class", "TID x WTA", "higher",
                     ("accuracy/task_id", "accuracy/within_task")),
            Quantity("geometry.predictions.calibration_error", "Calibration error", "ECE", "lower",
                     ("calibration/old", "calibration/new")),
            Quantity("geometry.seeds.t_interval", "t-interval over seeds", "mean +- t s / sqrt n", "neither"),
            Quantity("geometry.seeds.paired_difference", "Paired comparison", "mean of a_i - b_i", "neither"),
            Quantity("geometry.pairing.paired", "Paired by image", "(b - c) / n", "neither"),
        ),
    ),
    Section(
        "What it looks at",
        "Maps have one value per patch, in the unit of the score; masks mark the object's pixels.",
        "An average over n images is known to about 2 std / sqrt n; intervals here are bootstrapped over images.",
        (
            Quantity("explain.overlap.energy_inside", "Energy inside the mask", "energy", "higher", ("cam/energy",)),
            Quantity("explain.overlap.pointing_game", "Pointing game", "pointing", "higher", ("cam/pointing",)),
            Quantity("explain.gradcam.noise_floor", "Noise floor of maps", "floor", "neither"),
        ),
    ),
    Section(
        "Trust in a projection",
        "x = points in feature space, y = the same points in the picture, k = neighbours.",
        "Of fewer than a few hundred points the neighbourhoods are large parts, and both numbers look good.",
        (
            Quantity("plane.trust.quality", "Trustworthiness and neighbour overlap", "T, overlap", "higher"),
            Quantity("plane.trust.displacement_of_unmoved", "Displacement of unmoved points", "displacement",
                     "lower"),
        ),
    ),
)  # fmt: skip


@cache
def entries() -> tuple[Entry, ...]:
    """All quantities, in the order of `SECTIONS`."""
    return tuple(_entry(section, quantity) for section in SECTIONS for quantity in section.quantities)


def entry(key: str) -> Entry:
    """The entry of a function, or of a series of a run (`nc/train/nc1`, `drift/cosine`).

    Raises:
        KeyError: no such quantity.
    """
    bare = re.sub(r"^nc/(train|test)/", "", key)
    bare = re.sub(r"^(cam/\w+)/\w+$", r"\1", bare)
    for one in entries():
        if key == one.key or bare in one.series:
            return one
    raise KeyError(f"The glossary has no {key!r}. Valid: {', '.join(e.key for e in entries())}.")


def records() -> list[dict[str, Any]]:
    """All entries as plain JSON values, for a page."""
    return [{**asdict(one), "series": list(one.series)} for one in entries()]


def markdown() -> str:
    """docs/geometry.md."""
    lines = [
        "# Geometry: every quantity",
        "",
        "<!-- Generated by `python scripts/geometry_docs.py` from the docstrings. Do not edit. -->",
        "",
        "Formulas, ranges and sources are read from the docstrings of the functions that compute them, the same text"
        " as in the app's glossary. All of it is float64; an undefined value is NaN, never a number that looks right."
        " Fractions are in [0, 1].",
    ]
    for section in SECTIONS:
        lines += ["", f"## {section.title}", "", section.intro]
        for one in (e for e in entries() if e.section == section.title):
            arrow = {"lower": "lower is better", "higher": "higher is better", "neither": "neither is better"}
            lines += ["", f"### {one.name}", "", f"{one.summary}", "", "```text", one.formula, "```", ""]
            lines += [f"* **Range:** {one.range} ({arrow[one.better]})", f"* **Small samples:** {one.small_samples}"]
            lines += [f"* **Read:** {one.meaning}"] if one.meaning else []
            lines += [f"* **Source:** {one.source}"]
            names = f"; in a run: {', '.join(f'`{name}`' for name in one.series)}" if one.series else ""
            lines += [f"* **Computed by:** `{one.function}`{names}"]
    return "\n".join(lines) + "\n"


def _entry(section: Section, quantity: Quantity) -> Entry:
    module, name = quantity.function.rsplit(".", 1)
    text = re.split(r"\n(?:Args|Raises):", _docstrings(module)[name])[0]  # how to call it is for programmers
    summary, _, rest = text.partition("\n")
    formula, prose = _apart(rest)
    more = _sentences(summary)[1:]  # of a docstring that says all in one line
    sentences = more + _sentences(prose)
    source = [s for s in sentences if s.startswith("Source")]
    reach = [s for s in sentences if s not in source and re.match(r"(Range|In \[|Each in|All in|Relative error in)", s)]
    small = [s for s in sentences if s not in source + reach and _SMALL.search(s[0].lower() + s[1:])]
    rest = [s for s in sentences if s not in source + reach + small]
    return Entry(
        key=name,
        section=section.title,
        name=quantity.name,
        symbol=quantity.symbol,
        summary=_sentences(summary)[0],
        formula=formula,
        range=_capital(re.sub(r"^(Range:?|In(?= \[))\s*", "", " ".join(reach)).rstrip(".")),
        better=quantity.better,
        small_samples=_capital(re.sub(r"^Small samples:\s*", "", " ".join(small))) or section.small,
        meaning=" ".join(rest),
        source=re.sub(r"^Source:\s*", "", " ".join(source)),
        function=f"cillab.{quantity.function}",
        series=quantity.series,
    )


@cache
def _docstrings(module: str) -> dict[str, str]:
    tree = ast.parse((_HOME / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: inspect.cleandoc(ast.get_docstring(node) or "") for node in found}


def _apart(text: str) -> tuple[str, str]:
    """Indented lines are formulas; everything else is prose."""
    lines = text.splitlines()
    formula = [line for line in lines if line.startswith("    ")]
    prose = " ".join(line.strip() for line in lines if line and not line.startswith("    "))
    return inspect.cleandoc("\n".join(formula)), prose


def _sentences(text: str) -> list[str]:
    """Split at full stops, but not after an abbreviation or an initial."""
    found: list[str] = []
    for piece in re.split(r"(?<=[.?!])\s+(?=[A-Z`\d(]|[a-z]+_[a-z])", text.strip()):
        last = found[-1].rsplit(" ", 1)[-1] if found else ""
        if found and (last in _ABBREVIATED or re.fullmatch(r"\(?[A-Z]\.", last)):
            found[-1] += f" {piece}"
        elif piece:
            found.append(piece)
    return found


def _capital(text: str) -> str:
    return text if "_" in text.split(" ", maxsplit=1)[0] else text[:1].upper() + text[1:]
