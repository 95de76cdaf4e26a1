"""Sentences and numbers about one step: templates over what the run recorded, no adjectives."""

import numpy as np
import streamlit as st

from app.shell.html import number, percent, signed
from app.shell.store import Opened
from cillab.runs import Snapshot

Fact = tuple[str, str, str]


def _pair(run: Opened, name: str, step: int) -> tuple[float, float | None]:
    values = run.scalar(name)
    return float(values[step]), float(values[step - 1]) if step else None


def facts(run: Opened, step: int) -> list[Fact]:
    """The numbers of a step: accuracies with their change in points, collapse of the training features, drift."""
    seen, seen_before = _pair(run, "accuracy/seen", step)
    old, old_before = _pair(run, "accuracy/old", step)
    new, _ = _pair(run, "accuracy/new", step)
    rows = [
        ("Accuracy, seen classes", percent(seen), signed(seen, seen_before)),
        ("Earlier tasks", percent(old), signed(old, old_before)),
        ("This task", percent(new), ""),
    ]
    for label, name in (
        ("NC1 within / between", "nc/train/nc1"),
        ("NC2 angle spread", "nc/train/equiangular"),
        ("NC4 agreement", "nc/train/nc4"),
    ):
        now, before = _pair(run, name, step)
        if np.isfinite(now):
            change = (
                ""
                if before is None or not np.isfinite(before)
                else f"{now - before:+.2g}".replace("-", "\N{MINUS SIGN}")
            )
            rows.append(
                (label, percent(now) if name.endswith("nc4") else number(now), "" if name.endswith("nc4") else change)
            )
    return rows


@st.cache_resource(max_entries=16, show_spinner=False)
def _sentences(token: str, _run: Opened) -> list[str]:
    return [sentence(_run, step) for step in range(len(_run.steps))]


def sentences(run: Opened) -> list[str]:
    """What happened at every step."""
    return _sentences(run.token, run)


def sentence(run: Opened, step: int) -> str:
    """What happened at this step: how old tasks fared, and which class lost most, to which."""
    parts = []
    now = np.asarray(run.snapshots[step]["accuracy/row"], dtype=float)
    if step == 0:
        parts.append(f"{run.label(0)} is learnt at {percent(float(now[-1]))}.")
    else:
        before = np.asarray(run.snapshots[step - 1]["accuracy/row"], dtype=float)
        shared = min(len(before), len(now))
        change = 100 * float(np.mean(now[:shared] - before[:shared]))
        verb = "gained" if change > 0.05 else "lost" if change < -0.05 else "kept their accuracy"
        amount = f" {abs(change):.1f} points on average" if verb != "kept their accuracy" else ""
        parts.append(f"The {shared} earlier task{'s' if shared > 1 else ''} {verb}{amount}.")
        if loss := _largest_loss(run, step):
            parts.append(loss)
    return " ".join(parts)


def _largest_loss(run: Opened, step: int) -> str:
    """The class whose recall fell most, and what its images are taken for now."""
    now, before = run.snapshots[step], run.snapshots[step - 1]
    if "confusion" not in now or "confusion" not in before:
        return ""
    _, i, j = np.intersect1d(before["seen"], now["seen"], return_indices=True)
    falls = before.once(_recall)[i] - now.once(_recall)[j]
    fall, row = float(falls.max(initial=0)), int(j[falls.argmax()]) if len(j) else 0
    if fall <= 0:
        return ""
    wrong = np.array(now["confusion"][row])
    wrong[row] = 0
    name = [run.run.info.name_of(int(now["seen"][at])) for at in (row, int(wrong.argmax()))]
    target = f"; most of its errors go to “{name[1]}”" if wrong.any() else ""
    return f"“{name[0]}” lost most, {100 * fall:.0f} points{target}."


def _recall(snapshot: Snapshot) -> np.ndarray:
    """Share of every class's images that were found."""
    confusion = snapshot["confusion"]
    return np.diag(confusion) / np.maximum(confusion.sum(axis=1), 1)
