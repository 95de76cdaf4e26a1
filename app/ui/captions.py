"""Sentences and numbers about one step: templates over what the run recorded, no adjectives."""

import numpy as np

from app.ui.html import number, percent, signed
from app.ui.store import Opened

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


def sentence(run: Opened, step: int) -> str:
    """What happened at this step: how old tasks fared, and which class lost most, to which."""
    parts = []
    matrix = [np.asarray(s["accuracy/row"], dtype=float) for s in run.snapshots[: step + 1]]
    if step == 0:
        parts.append(f"{run.label(0)} is learnt at {percent(float(matrix[0][-1]))}.")
    else:
        shared = min(len(matrix[step - 1]), len(matrix[step]))
        change = 100 * float(np.mean(matrix[step][:shared] - matrix[step - 1][:shared]))
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
    a, b = np.asarray(before["confusion"], float), np.asarray(now["confusion"], float)
    at = {int(c): i for i, c in enumerate(now["seen"])}
    common = [(i, at[int(c)]) for i, c in enumerate(before["seen"]) if int(c) in at]
    falls = [(a[i, i] / max(a[i].sum(), 1) - b[j, j] / max(b[j].sum(), 1), j) for i, j in common]
    fall, row = max(falls)
    if fall <= 0:
        return ""
    wrong = b[row].copy()
    wrong[row] = 0
    names = [run.run.info.name_of(int(c)) for c in now["seen"]]
    target = f"; most of its errors go to “{names[int(wrong.argmax())]}”" if wrong.any() else ""
    return f"“{names[row]}” lost most, {100 * fall:.0f} points{target}."
