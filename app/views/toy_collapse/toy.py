"""The parts of Toy collapse: knobs and presets, the frames in the browser, and what they show in words."""

import base64
import hashlib
import json
from importlib import import_module
from typing import Any

import numpy as np
import streamlit as st

from app.shell import export, html, state, theme
from app.shell.component import component
from cillab.geometry.etf import ideal_cosine
from cillab.geometry.rows import centre, cosine_matrix, pairs
from cillab.teaching.toy import Toy, simulate

LOSSES = {"ce": "Cross-entropy", "mse": "Squared error", "dr": "Dot-regression"}
HEADS = {"learned": "Learned", "etf": "Fixed simplex ETF"}
MODELS = {"free": "Free features", "network": "A small network"}
_IMBALANCES = (1, 3, 10, 30, 100)

DEFAULTS: dict[str, Any] = {
    "toy_classes": 4, "toy_dim": 3, "toy_images": 12, "toy_loss": "ce", "toy_head": "learned", "toy_model": "free",
    "toy_decay": -2.25, "toy_imbalance": 1, "toy_added": 0, "toy_old": False, "toy_seed": 0,
}  # fmt: skip
PRESETS: dict[str, tuple[dict[str, Any], str]] = {
    "A frame appears": (
        {},
        "Each image may put its feature anywhere. Cross-entropy and a little weight decay are enough: images of a "
        "class meet in one point, the points stand as far apart as four points can, and the head lines up with them.",
    ),
    "Few images, and classes merge": (
        {"toy_images": 100, "toy_imbalance": 100},
        "Classes 3 and 4 have a hundred times fewer images. Their head rows end up nearly the same: minority collapse.",
    ),
    "A new task breaks it": (
        {"toy_classes": 3, "toy_added": 1},
        "Three classes build their frame; then a fourth is learnt without a single old image. Its row takes over, the "
        "old rows fade, and every old image is answered wrongly although its feature has not moved.",
    ),
    "A fixed frame holds": (
        {"toy_classes": 3, "toy_added": 1, "toy_head": "etf"},
        "The head is an ETF with a place kept for the fourth class. Nothing can push old rows away: old answers stay.",
    ),
    "But a shared network moves": (
        {"toy_classes": 3, "toy_added": 1, "toy_head": "etf", "toy_model": "network"},
        "The same fixed frame, with features from a small network that all images share: learning the new class moves "
        "old features too. A fixed head protects the head, not the features.",
    ),
    "No room for a frame": (
        {"toy_classes": 6, "toy_dim": 2},
        "Six classes in two dimensions: a simplex would need five. The classes settle on a circle and NC2 stops short.",
    ),
}


def prepare() -> None:
    """Values from the link, else the defaults: a widget takes what the session holds."""
    for name, value in DEFAULTS.items():
        if name not in st.session_state and name not in st.query_params:
            st.session_state[name] = value


def presets() -> None:
    """Buttons that set every knob."""
    with st.container(horizontal=True, gap="small", key="presets"):
        for name, (changed, _) in PRESETS.items():
            st.button(name, key=f"preset-{html_key(name)}", on_click=_set, args=({**DEFAULTS, **changed},))


def watch() -> None:
    """What to watch for, where the knobs stand as one of the buttons sets them."""
    now = {name: st.session_state.get(name, value) for name, value in DEFAULTS.items()}
    for changed, text in PRESETS.values():
        if {**DEFAULTS, **changed} == now:
            html.show(f"<p>{html.safe(text)}</p>", "ci-sentence")


def html_key(name: str) -> str:
    """A key from a title."""
    return "-".join("".join(c for c in word.lower() if c.isalpha()) for word in name.split())


def _set(values: dict[str, Any]) -> None:
    for name, value in values.items():
        st.session_state[name] = value


def controls() -> dict[str, Any]:
    """The knobs; what cannot be asked for together is switched off."""
    bound = state.bound()
    columns = st.columns(4, gap="medium")
    with columns[0]:
        classes = st.slider("Classes", 2, 10, key="toy_classes", **bound)
        dim = st.slider("Dimensions of the features", 1, 16, key="toy_dim", **bound)
        images = st.slider("Images per class", 1, 100, key="toy_images", **bound)
    with columns[1]:
        loss = st.selectbox("Loss", list(LOSSES), key="toy_loss", format_func=LOSSES.__getitem__, **bound)
        added = st.slider("Added classes, as a second task", 0, 3, key="toy_added", **bound)
        old = st.toggle("Keep old images", key="toy_old", disabled=not added, **bound)
        room = dim >= classes + added - 1
        if loss == "dr" or not room:  # the only head that fits
            st.session_state["toy_head"] = "etf" if loss == "dr" and room else "learned"
    with columns[2]:
        model = st.selectbox(
            "Features", list(MODELS), key="toy_model", format_func=MODELS.__getitem__, **bound,
            help="Free: every image has a feature of its own that may go anywhere (unconstrained features). Network: "
            "two layers that all images share.",
        )  # fmt: skip
        head = st.selectbox(
            "Head", list(HEADS), key="toy_head", format_func=HEADS.__getitem__, disabled=loss == "dr" or not room,
            help=None if room else f"An ETF of {classes + added} classes needs {classes + added - 1} dimensions.",
            **bound,
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 999, key="toy_seed", **bound)
    with columns[3]:
        decay = st.slider(
            "Weight decay, power of ten", -4.0, -1.0, step=0.25, key="toy_decay", disabled=loss == "dr",
            help="Not for dot-regression, which sees directions only.", **bound,
        )  # fmt: skip
        imbalance = st.select_slider(
            "Images of the later half", _IMBALANCES, key="toy_imbalance", **bound,
            format_func=lambda ratio: "as many" if ratio == 1 else f"{ratio} times fewer",
        )  # fmt: skip
    if loss == "dr" and not room:
        html.empty("No room for a fixed frame", f"Dot-regression needs an ETF of {classes + added} classes, and that "
                   f"{classes + added - 1} dimensions. Add dimensions or take classes away.")  # fmt: skip
        return {}
    return {
        "classes": int(classes), "dim": int(dim), "per_class": int(images), "loss": loss or "ce",
        "head": head or "learned", "model": model or "free", "decay": 10.0 ** float(decay),
        "imbalance": float(imbalance), "added": int(added), "old_data": bool(old) and bool(added), "seed": int(seed),
    }  # fmt: skip


@st.cache_resource(max_entries=64, show_spinner=False)
def solved(asked: str) -> Toy:
    """The frames of one setting: deterministic, so remembered."""
    return simulate(**json.loads(asked))


def stage(asked: dict[str, Any]) -> Toy:
    """Solve, and play in the browser; a figure with its own buttons where there are no components."""
    token = json.dumps(asked, sort_keys=True)
    toy = solved(token)
    mount = component("toy", '<div class="cillab-toy"></div>')
    if mount is None:
        from app.charts import charts  # noqa: PLC0415 (plotly)

        charts.draw("toy", "The toy", toy, key="toy-figure")
    else:
        mount(key="toy", data={**_packed(token, toy), "colours": {m: list(c) for m, c in theme.TASK_COLOURS.items()}})
    return toy


@st.cache_resource(max_entries=64, show_spinner=False)
def _packed(token: str, _toy: Toy) -> dict[str, Any]:
    dims = min(3 if len(_toy.tasks) <= 4 else 2, max(_toy.features.shape[2], 2))
    axes = _toy.axes(dims)
    reach = np.linalg.norm(_toy.means - np.nanmean(_toy.means, axis=1, keepdims=True), axis=2)
    length = np.linalg.norm(_toy.weight, axis=2)
    rows = _toy.weight * (np.nanmean(reach, axis=1) / np.nanmean(length, axis=1).clip(1e-12))[:, None, None] * 1.2
    shown = [_toy.features @ axes, rows @ axes]
    series = {
        "nc1": _toy.nc1, "nc2": _toy.nc2, "equinorm": _toy.equinorm, "nc3": _toy.nc3, "old": _toy.accuracy(0),
        **({"new": _toy.accuracy(1)} if _toy.task.any() else {}),
    }  # fmt: skip
    return {
        "token": hashlib.blake2b(token.encode(), digest_size=8).hexdigest(),
        "dims": dims, "classes": len(_toy.tasks), "images": len(_toy.labels), "labels": _toy.labels.tolist(),
        "steps": _toy.step.tolist(), "split": int((_toy.task == 0).sum()) if _toy.task.any() else 0,
        "second": "second task, old images kept" if _toy.settings["old_data"] else "second task, no old images",
        "radius": float(np.nanmean(reach[-1])),
        "size": float(max(np.nanquantile(np.linalg.norm(part, axis=-1), 0.96) for part in shown)) or 1.0,
        "features": _pack(shown[0]), "means": _pack(_toy.means @ axes), "rows": _pack(shown[1]),
        "ideal": _pack(_toy.ideal @ axes), "series": {name: _pack(values) for name, values in series.items()},
        "alt": f"{len(_toy.tasks)} classes in {dims} dimensions, {len(_toy.step)} frames.",
    }  # fmt: skip


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=np.float32).tobytes()).decode()


def told(toy: Toy) -> None:
    """What happened from the first frame to the last, in numbers and words."""
    from cillab.figures.toy import toy_sentence  # noqa: PLC0415 (only words, but its module loads plotly)

    html.note(toy_sentence(toy, len(toy.step) - 1))
    count = len(toy.tasks)
    facts = [
        ("Cosine of every pair in a simplex", html.number(ideal_cosine(count)), ""),
        ("Cosines of the means at the end", _range(pairs(toy.cosines[-1])), ""),
        ("Cosines of the head rows", _range(pairs(cosine_matrix(centre(toy.weight[-1])))), ""),
        ("Loss at the end", html.number(float(toy.loss[-1])), ""),
    ]
    html.show(html.facts(facts, "small"))


def _range(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return html.number(None)
    low, high = html.number(float(values.min()), 2), html.number(float(values.max()), 2)
    return low if low == high else f"{low} to {high}"


def take_along(toy: Toy) -> None:
    """The same frames as a figure with buttons of its own, and its numbers; drawn when asked for."""
    mode = theme.mode()

    def draw() -> Any:
        return import_module("cillab.figures").toy(toy, theme=mode)

    export.offer(draw, "toy", "Toy collapse", image=False)
