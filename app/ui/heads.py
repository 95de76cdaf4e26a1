"""The parts of the Head lab: another head on the features of a step, from what the probe kept of training images."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import streamlit as st

from app.ui import changes, charts, html, state, theme
from app.ui.live import Answer
from app.ui.store import Opened
from cillab.geometry import plain
from cillab.geometry.heads import Head, Statistics, blended, confidence, nearest, unit

KINDS = {
    "stored": "The learner's own head",
    "cosine": "Nearest mean, cosine",
    "euclidean": "Nearest mean, Euclidean",
    "ridge": "Ridge",
    "lda": "Linear discriminant (LDA)",
    "etf": "Fixed simplex ETF",
}
MEANS = {"now": "measured now", "stored": "stored when learnt"}
ORDERS = {"run": "as in the run", "reversed": "reversed", "shuffled": "shuffled"}
_CLOSE = 0.02  # scores in half precision, relative to their spread, that still count as the same


@dataclass(frozen=True, eq=False)
class Bench:
    """One step, ready to be asked: features of the probe images whose classes are seen, moments of training images."""

    classes: np.ndarray  # class ids, in order of first appearance
    task_of: np.ndarray  # task of each class
    positions: np.ndarray  # of the images in the probe
    labels: np.ndarray
    rows: np.ndarray  # row of the class of each image
    features: np.ndarray
    scores: np.ndarray  # of the learner itself
    known: dict[str, Statistics]  # by which means
    own: Head | None  # the learner's head, where it lives in the space of the features

    def answer(self, scores: np.ndarray) -> Answer:
        """Scores as answers."""
        return Answer(self.positions, self.labels, self.classes[scores.argmax(axis=1)], 0.0)


@st.cache_resource(max_entries=16, show_spinner=False)
def _bench(path: str, step: str, changed: float, _view: Opened, _at: int) -> Bench:
    shot, labels = _view.snapshots[_at], np.asarray(_view.run.probe.labels)
    classes = np.asarray(shot["seen"])
    positions = np.flatnonzero(np.isin(labels, classes))
    row_of = {int(c): row for row, c in enumerate(classes)}
    mine = labels[positions]
    features = np.asarray(shot["features"], dtype=np.float64)[positions]
    within = np.asarray(shot["nc/within"], dtype=np.float64)
    axes, spectrum = shot.get("nc/axes_within"), shot.get("nc/spectrum_within")
    known = {
        which: Statistics(np.asarray(shot[f"means/{which}"], dtype=np.float64), within, axes, spectrum)
        for which in MEANS
    }
    scores = np.asarray(shot["logits"], dtype=np.float64)[positions]
    rows = np.array([row_of[int(c)] for c in mine], dtype=np.int64)
    task_of = np.asarray(shot["task_of_class"])
    return Bench(classes, task_of, positions, mine, rows, features, scores, known, _own_head(shot, features, scores))


def bench(run: Opened, step: int) -> Bench:
    """The step as a bench; read once."""
    file = run.run.path / "steps" / f"{run.steps[step]}.safetensors"
    return _bench(str(run.run.path), run.steps[step], file.stat().st_mtime, run, step)


def _own_head(shot: Any, features: np.ndarray, scores: np.ndarray) -> Head | None:
    """The stored head as a linear or cosine head, whichever gives the stored scores; None if neither does."""
    weight = shot.get("head/weight")
    if weight is None or weight.shape != (scores.shape[1], features.shape[1]) or not len(features):
        return None
    weight, bias = np.asarray(weight, dtype=np.float64), np.asarray(shot.get("head/bias", np.zeros(len(weight))))
    for head in (Head(weight, bias.astype(np.float64)), Head(unit(weight), np.zeros(len(weight)), unit=True)):
        if np.abs(head.scores(features) - scores).max() <= _CLOSE * max(np.ptp(scores), 1e-9):
            return head
    return None


def kinds(found: Bench) -> list[str]:
    """Heads that this step can honestly give."""
    room = found.features.shape[1] >= len(found.classes) - 1
    off = {"lda"} if not found.known["now"].directions else set()
    return [name for name in KINDS if name not in off | (set() if room else {"etf"})]


def controls(found: Bench) -> dict[str, Any]:
    """Everything that can be changed, in the URL."""
    kind = st.selectbox("Head", kinds(found), key="head", format_func=KINDS.__getitem__, **state.bound())
    which = st.segmented_control(
        "Class means", list(MEANS), key="means", default="now", format_func=MEANS.__getitem__, required=True,
        disabled=kind == "stored", **state.bound(),
        help="Measured now: training images of all classes seen, through the features of this step (an oracle; a "
        "learner without exemplars cannot do it). Stored: what a learner has that keeps one mean per class.",
    )  # fmt: skip
    power = st.slider(
        "Ridge penalty gamma, power of ten", -4.0, 2.0, -2.0, 0.25, key="gamma", disabled=kind not in ("ridge", "lda"),
        help="Relative to the average variance of a feature. For LDA it is the shrinkage of the covariance.",
        **state.bound(),
    )  # fmt: skip
    fixed = kind == "etf" or (kind == "stored" and found.own is None) or "etf" not in kinds(found)
    share = st.slider(
        "Blend towards the simplex ETF", 0.0, 1.0, 0.0, 0.05, key="blend", disabled=fixed, **state.bound(),
        help="0 is the head as it is, 1 the simplex ETF nearest to the class means, of the same size.",
    )  # fmt: skip
    warmth = st.slider(
        "Temperature, power of ten", -2.0, 2.0, 0.0, 0.25, key="warmth", **state.bound(),
        help="Divides the scores. It changes how sure the head is and never which class it chooses.",
    )  # fmt: skip
    return {
        "kind": kind or "stored", "which": which or "now", "gamma": 10.0 ** float(power),
        "share": 0.0 if fixed else float(share), "temperature": 10.0 ** float(warmth),
    }  # fmt: skip


def made(found: Bench, asked: dict[str, Any], rows: np.ndarray | None = None) -> tuple[Head | None, np.ndarray]:
    """The head that was asked for, on the classes `rows` (default: all), and its scores on all images of the bench."""
    keep = np.arange(len(found.classes)) if rows is None else rows
    known = found.known[asked["which"]].of(keep)
    if asked["kind"] != "stored":
        head = known.head(asked["kind"], asked["gamma"])
    elif found.own is None:
        return None, found.scores[:, keep]
    elif asked["share"] == 0:
        return Head(found.own.weight[keep], found.own.bias[keep], found.own.unit), found.scores[:, keep]
    else:
        head = Head(found.own.weight[keep], found.own.bias[keep], found.own.unit)
    head = blended(head, known.means, asked["share"])
    return head, head.scores(found.features)


def numbers(run: Opened, found: Bench, asked: dict[str, Any]) -> tuple[Answer, Answer]:
    """Accuracy, confidence and collapse of the head beside those of the learner's own."""
    head, scores = made(found, asked)
    before, after = found.answer(found.scores), found.answer(scores)
    new = found.task_of[found.rows] == found.task_of.max()
    changed, fixed, lost = changes.counts(before, after)
    sure = confidence(scores, asked["temperature"])

    def share(name: str, mine: np.ndarray) -> tuple[str, str, str]:
        if not mine.any():
            return name, html.percent(None), ""
        now, then = float(after.right[mine].mean()), float(before.right[mine].mean())
        return name, html.percent(now), html.signed(now, then)

    everything = np.ones(len(new), dtype=bool)
    with st.container(border=True, key="head-numbers"):
        html.show(
            html.facts([
                share("Accuracy, all", everything), share("Earlier tasks", ~new), share("This task", new),
                ("Mean confidence", html.percent(sure), ""),
                ("Answers changed", str(changed), f"of {len(new)}"), ("Now right / now wrong", f"{fixed} / {lost}", ""),
            ])
        )  # fmt: skip
        html.show(changes.by_task(before, after, found.task_of[found.rows], run.tasks_total, "the learner's own head"))
        html.note(_on_what(len(new), run))
    _collapse(found, asked, head, after)
    return before, after


def _on_what(count: int, run: Opened) -> str:
    return (
        f"Asked on the {count} probe images of seen classes, all from the test set; one image is "
        f"{100 / max(count, 1):.1f} points. Heads are made from moments of training images; no test image enters one."
    )


def _collapse(found: Bench, asked: dict[str, Any], head: Head | None, after: Answer) -> None:
    """NC2 of the rows, NC3 and NC4 of the head, beside the class means themselves."""
    means = found.known[asked["which"]].means
    centred = plain.centre(means)
    rows: list[tuple[str, ...]] = [(
        "Class means", html.number(plain.equinorm(centred)), html.number(plain.maximal_angle(centred)),
        *["\N{EN DASH}"] * 3,
    )]  # fmt: skip
    agrees = html.percent(float((found.classes[nearest(found.features, means)] == after.predicted).mean()))
    if head is None:
        rows.append((KINDS[asked["kind"]], *["\N{EN DASH}"] * 4, agrees))
    else:
        around = unit(means) if head.unit else means
        distance, cosine = plain.nc3(plain.centre(head.weight), around)
        rows.append((
            KINDS[asked["kind"]] + (f", {100 * asked['share']:.0f} % ETF" if asked["share"] else ""),
            html.number(plain.equinorm(plain.centre(head.weight))),
            html.number(plain.maximal_angle(plain.centre(head.weight))),
            html.number(distance), html.number(cosine), agrees,
        ))  # fmt: skip
    columns = ("", "NC2 lengths", "NC2 angles", "NC3 distance", "NC3 cosine", "Agrees with nearest mean")
    html.table(columns, rows, "Collapse of the head")
    if head is None:
        html.note(
            "This learner's head reads other features than those recorded (a ridge on random features, text), so its "
            "rows cannot be set beside the class means, nor blended with an ETF."
        )
    else:
        html.note("Rows centred on their average. Distances go to 0 and cosines to 1 under collapse.")


def path(found: Bench, asked: dict[str, Any], order: np.ndarray, size: int) -> Any:
    """The head made anew after every `size` classes of an order: accuracy on the classes seen, turn of an ETF."""
    from cillab.figures.growing import Path  # noqa: PLC0415 (plotly comes with it)

    ends = [*range(size, len(order), size), len(order)]
    ends = [end for end in ends if end >= 2]
    accuracy, turns = [], []
    for at, end in enumerate(ends):
        rows = np.sort(order[:end])
        here = np.isin(found.rows, rows)
        scores = made(found, asked, rows)[1][here]
        accuracy.append(float((rows[scores.argmax(axis=1)] == found.rows[here]).mean()) if here.any() else np.nan)
        turns.append(np.degrees(plain.growth_angle(ends[at - 1], end)) if at else np.nan)
    return Path(np.array(ends, dtype=np.float64), np.array(accuracy), np.array(turns))


def ordered(count: int, kind: Literal["run", "reversed", "shuffled"] | str, seed: int) -> np.ndarray:
    """Rows of the classes in another order."""
    rows = np.arange(count)
    match kind:
        case "reversed":
            return rows[::-1]
        case "shuffled":
            return np.random.default_rng([seed, count]).permutation(rows)
        case _:
            return rows


def journey(run: Opened, found: Bench, asked: dict[str, Any]) -> None:
    """Another order of the classes, and other task sizes, for the same features."""
    st.header("Another order, other task sizes", anchor=False)
    count, size = len(found.classes), run.run.info.sizes[0]
    if count < 4:
        html.empty("Too few classes yet", "The order of classes says something from four classes on.")
        return
    left, middle, right = st.columns(3, gap="medium", vertical_alignment="bottom")
    with left:
        kind = st.selectbox("Class order", list(ORDERS), key="order", format_func=ORDERS.__getitem__, **state.bound())
    with middle:
        seed = st.number_input("Shuffle", 0, 999, 0, key="shuffle", disabled=kind != "shuffled", **state.bound())
    with right:
        each = st.slider(
            "Classes per task", 1, max(2, count // 2), min(size, max(2, count // 2)), key="each", **state.bound()
        )
    order = ordered(count, kind or "run", int(seed or 0))
    here = path(found, asked, order, int(each))
    same = each == size and (order == np.arange(count)).all()
    recorded = here if same else path(found, asked, np.arange(count), size)
    from cillab.figures.growing import draw_growing  # noqa: PLC0415

    charts.panel(draw_growing(here, recorded, theme.mode()), "growing", "Another order")
    html.note(
        "The features stay those of this step. Class means, ridge and LDA do not depend on the order: every order ends "
        "at the same accuracy, only the way there differs. With a frozen backbone this is what a run in that order "
        "would give; a learner that trains its features would have other features."
    )


def made_of(found: Bench, asked: dict[str, Any]) -> None:
    """What this head was fitted on, in words."""
    if asked["kind"] == "stored":
        html.note("As recorded: the scores that the learner itself gave at this step.")
        return
    shape = (
        f"the {len(found.known['now'].scatter[0])} leading directions of the scatter within classes"
        if found.known["now"].directions
        else "the size of the scatter within classes; its directions were not recorded, so it is taken as equal in all "
        "of them (LDA would then be the nearest mean, and is not offered)"
    )
    uses = {
        "cosine": "the class means alone",
        "euclidean": "the class means alone",
        "etf": "the class means alone: the simplex ETF nearest to them",
        "ridge": f"the class means and {shape}; classes count equally",
        "lda": f"the class means and {shape}",
    }
    html.note(f"Made from {uses[asked['kind']]}, on training images, {MEANS[asked['which']]}.")
