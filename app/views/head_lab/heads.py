"""The parts of the Head lab: another head on the features of a step, from what the probe kept of training images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import streamlit as st

from app.charts import charts
from app.images import changes
from app.learner import benches
from app.learner.live import Answer
from app.shell import html, state, theme
from app.shell.store import Opened, fragment
from app.views.head_lab import moves
from cillab.geometry import nc2
from cillab.geometry.etf import growth_angle
from cillab.geometry.heads import Head, Statistics, blended, confidence
from cillab.geometry.nc3 import nc3, nearest_mean
from cillab.geometry.rows import unit

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
STOPS = 20  # most tasks at which the way of another order is worked out, and
_ROOM = 4e6  # numbers that the heads of all of them may have: a head of 1,000 x 768 takes 50 ms


@dataclass(frozen=True, eq=False)
class Bench:
    """One step, ready to be asked: its probe images, moments of training images."""

    images: benches.Images
    known: dict[str, Statistics]  # by which means
    own: Head | None  # the learner's head, where it lives in the space of the features

    @cached_property
    def nearest(self) -> dict[str, np.ndarray]:
        """The class whose mean is nearest to each image, by which means."""
        images = self.images
        return {which: images.classes[nearest_mean(images.features, one.means)] for which, one in self.known.items()}

    @cached_property
    def spread(self) -> dict[str, tuple[float, float]]:
        """NC2 of the class means, by which means: lengths and angles."""
        return {which: _spread(one.means) for which, one in self.known.items()}


def _spread(rows: np.ndarray) -> tuple[float, float]:
    """NC2 of rows around their average: lengths and angles."""
    return nc2.equinorm(rows).value, nc2.or_nan(nc2.maximal_angle, rows)


@st.cache_resource(max_entries=16, show_spinner=False)
def _bench(key: tuple[str, str, float], _view: Opened, _at: int) -> Bench:
    shot, images = _view.snapshots[_at], benches.read(_view, _at)
    within = np.asarray(shot["nc/within"], dtype=np.float64)
    axes, spectrum = shot.get("nc/axes_within"), shot.get("nc/spectrum_within")
    known = {
        which: Statistics(np.asarray(shot[f"means/{which}"], dtype=np.float64), within, axes, spectrum)
        for which in MEANS
    }
    return Bench(images, known, _own_head(shot, images))


def bench(run: Opened, step: int) -> Bench:
    """The step as a bench; read once."""
    return _bench(benches.key(run, step), run, step)


def _own_head(shot: Any, images: benches.Images) -> Head | None:
    """The stored head as a linear or cosine head, whichever gives the stored scores; None if neither does."""
    weight, features = shot.get("head/weight"), images.features
    if weight is None or weight.shape != (images.scores.shape[1], features.shape[1]) or not len(features):
        return None
    weight, bias = np.asarray(weight, dtype=np.float64), np.asarray(shot.get("head/bias", np.zeros(len(weight))))
    for head in (Head(weight, bias.astype(np.float64)), Head(unit(weight), np.zeros(len(weight)), unit=True)):
        if images.reproduced(head.scores(features)):
            return head
    return None


def kinds(found: Bench) -> list[str]:
    """Heads that this step can honestly give."""
    room = found.images.features.shape[1] >= len(found.images.classes) - 1
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
    """The head that was asked for, on the classes `rows` (default: all), and its scores on the images of those."""
    images = found.images
    keep = np.arange(len(images.classes)) if rows is None else rows
    here = slice(None) if rows is None else np.isin(images.rows, rows)
    head, recorded = _head(found, asked, keep)
    return head, images.scores[here][:, keep] if recorded or head is None else head.scores(images.features[here])


def _head(found: Bench, asked: dict[str, Any], keep: np.ndarray) -> tuple[Head | None, bool]:
    """The head on some classes, if it is known, and whether its scores are the recorded ones."""
    known = found.known[asked["which"]].of(keep)
    if asked["kind"] != "stored":
        head = known.head(asked["kind"], asked["gamma"])
    elif found.own is None:
        return None, True
    else:
        head = Head(found.own.weight[keep], found.own.bias[keep], found.own.unit)
        if asked["share"] == 0:
            return head, True
    return blended(head, known.means, asked["share"]), False


def numbers(run: Opened, found: Bench, asked: dict[str, Any]) -> tuple[Answer, Answer]:
    """Accuracy, confidence and collapse of the head beside those of the learner's own."""
    head, scores = made(found, asked)
    images = found.images
    before, after = images.recorded, images.answer(scores)
    sure = confidence(scores, asked["temperature"])
    with st.container(border=True, key="head-numbers"):
        html.show(html.facts(changes.facts(before, after, images.new, sure)))
        html.show(changes.by_task(before, after, images.tasks, run.tasks_total, "the learner's own head"))
        html.note(
            f"{changes.on_what(len(images.positions))} Heads are made from moments of training images; no test image "
            "enters one."
        )
    _collapse(found, asked, head, after)
    return before, after


def _collapse(found: Bench, asked: dict[str, Any], head: Head | None, after: Answer) -> None:
    """NC2 of the rows, NC3 and NC4 of the head, beside the class means themselves."""
    means = found.known[asked["which"]].means
    spread = map(html.number, found.spread[asked["which"]])
    rows: list[tuple[str, ...]] = [("Class means", *spread, *["\N{EN DASH}"] * 3)]
    agrees = html.percent(float((found.nearest[asked["which"]] == after.predicted).mean()))
    if head is None:
        rows.append((KINDS[asked["kind"]], *["\N{EN DASH}"] * 4, agrees))
    else:
        around = unit(means) if head.unit else means
        duality = nc3(head.weight, around, centre_head=True)
        rows.append((
            KINDS[asked["kind"]] + (f", {100 * asked['share']:.0f} % ETF" if asked["share"] else ""),
            *map(html.number, _spread(head.weight)),
            html.number(duality.distance), html.number(duality.mean_cosine), agrees,
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


def stops(found: Bench) -> int:
    """At how many tasks the way of another order is worked out."""
    return int(np.clip(_ROOM / found.known["now"].means.size, 6, STOPS))


def path(found: Bench, asked: dict[str, Any], order: np.ndarray, size: int) -> Any:
    """The head made anew after every `size` classes of an order: accuracy on the classes seen, turn of an ETF.

    Of more than `stops` tasks as many are asked, evenly spread, the first and the last among them.
    """
    from cillab.figures.growing import Path  # noqa: PLC0415 (plotly comes with it)

    images, ends = found.images, [*range(size, len(order), size), len(order)]
    ends = [end for end in ends if end >= 2]
    before = dict(zip(ends[1:], ends, strict=False))
    chosen = np.linspace(0, len(ends) - 1, min(stops(found), len(ends))).round().astype(int)
    ends = [ends[at] for at in np.unique(chosen)]
    accuracy, turns = [], []
    for end in ends:
        rows = np.sort(order[:end])
        own = images.rows[np.isin(images.rows, rows)]
        answers = rows[made(found, asked, rows)[1].argmax(axis=1)] if len(own) else own
        accuracy.append(float((answers == own).mean()) if len(own) else np.nan)
        turns.append(np.degrees(growth_angle(before[end], end)) if end in before else np.nan)
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
    count, size = len(found.images.classes), run.run.info.sizes[0]
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
    _way(
        here,
        recorded,
        (str(run.run.path), found.images.classes.tobytes(), kind, seed, each, theme.mode(), theme.narrow()),
    )
    if count > stops(found) * min(each, size):
        html.note(f"Of so many tasks {stops(found)} are worked out, evenly spread.")
    html.note(
        "The features stay those of this step. Class means, ridge and LDA do not depend on the order: every order ends "
        "at the same accuracy, only the way there differs. With a frozen backbone this is what a run in that order "
        "would give; a learner that trains its features would have other features."
    )


def _way(here: Any, recorded: Any, axes: tuple) -> None:
    """The way to all classes. Where only the head changed, the chart stays and its lines move: drawing is slow."""
    from cillab.figures import growing  # noqa: PLC0415

    mode, kept = theme.mode(), st.session_state.get("growing-drawn")

    def drawn() -> Any:
        return charts.dressed(growing.draw_growing(here, recorded, mode), "growing")

    still = moves.possible() and all(np.isfinite(one.accuracy).all() for one in (here, recorded))
    if not still or kept is None or kept[0] != axes:
        st.session_state["growing-drawn"] = kept = (axes, drawn())
    charts.show(kept[1], "growing")
    said = growing.growing_sentence(here, recorded)
    charts.under("growing", "Another order", drawn, said, *growing.NOTES)
    if still:
        lines = [
            (growing.TRACES[name], one.accuracy.tolist()) for name, one in (("recorded", recorded), ("here", here))
        ]
        moves.tell([moves.figure("growing", said, lines=lines)])


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


@fragment
def lab(run: Opened, step: int) -> None:
    """The whole lab on one step; a control reruns this and not the choice of a run."""
    found = bench(run, step)
    if len(found.images.classes) < 2 or not len(found.images.rows):
        html.empty("Too few classes yet", "A head needs two classes, and probe images of them. Choose a later step.")
        return
    left, right = st.columns([1, 1.75], gap="large")
    with left:
        asked = controls(found)
        made_of(found, asked)
    with right:
        before, after = numbers(run, found, asked)
    changes.pictures(run, before, after, "No answer differs from the learner's own head.")
    st.divider()
    journey(run, found, asked)
