"""Checks of notebooks 07 to 12: the library's functions pass, typical mistakes are recognised, nothing breaks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from cillab import teaching
from cillab.explain.overlap import energy_inside
from cillab.geometry import transport
from cillab.parts.losses import pull_push
from cillab.parts.prompt_losses import textual_etf
from cillab.teaching import Verdict
from tests.teaching.exercises import CHECK

CHECKS = [
    "check_base_to_new", "check_cam", "check_census", "check_confidence", "check_difference", "check_draw",
    "check_energy", "check_ensemble", "check_folded", "check_gap", "check_held", "check_mixture",
    "check_noise_gradient", "check_pull_push", "check_row", "check_safe_angle", "check_separation",
    "check_shift", "check_transport_map", "check_w2",
]  # fmt: skip


def asked(name: str, attempt: Callable[..., Any]) -> Verdict:
    return CHECK[name](attempt)


def torched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The library's function on tensors, asked with arrays."""
    return lambda *given: function(*(torch.as_tensor(part) for part in given))


def library_pull_push(z: np.ndarray, vertices: np.ndarray, own: int) -> tuple[float, float]:
    pull, push = pull_push(torch.from_numpy(z)[None], torch.from_numpy(vertices), torch.tensor([own]))
    return float(pull), float(push)


def library_map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    zero = np.zeros(len(old))
    return transport.gaussian_map(zero, old, zero, new)[0]


def library_energy(heat: np.ndarray, mask: np.ndarray) -> float:
    """Each cell as 4 x 4 pixels, of which the mask's share is set."""
    pixels = np.arange(16).reshape(4, 4)
    blocks = np.block([[pixels < 16 * share for share in row] for row in mask])
    return float(energy_inside(torch.from_numpy(heat)[None], torch.from_numpy(blocks)[None])[0])


def scipy_procrustes(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return orthogonal_procrustes(a * weights[:, None], b)[0].T


def by_autograd(
    phi: np.ndarray, auxiliary: np.ndarray, ridge: np.ndarray, labels: np.ndarray, stopped: bool = True
) -> np.ndarray:
    h = torch.tensor(phi, requires_grad=True)
    analytic = h @ torch.from_numpy(ridge)
    logits = h @ torch.from_numpy(auxiliary) + (analytic.detach() if stopped else analytic)
    return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)), h)[0].numpy()


def two_tables(scores: np.ndarray, truth: np.ndarray, is_base: np.ndarray) -> list[float]:
    """Image by image, each half of the classes in a table of its own."""
    found: list[list[bool]] = [[], []]
    for row, y in zip(scores.tolist(), truth.tolist(), strict=True):
        rivals = [c for c in range(len(row)) if is_base[c] == is_base[y]]
        found[int(not is_base[y])].append(max(rivals, key=lambda c, row=row: row[c]) == y)
    return [sum(part) / len(part) for part in found]


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("check_noise_gradient", by_autograd),
        ("check_held", scipy_procrustes),
        ("check_base_to_new", two_tables),
        ("check_pull_push", library_pull_push),
        ("check_transport_map", library_map),
        ("check_w2", transport.w2_gaussian),
        ("check_separation", torched(textual_etf)),
        ("check_energy", library_energy),
        ("check_draw", lambda mean, cov, noise: mean + noise @ transport._root(cov)),
    ],
)
def test_the_library_passes(name: str, attempt: Callable[..., Any]) -> None:
    assert asked(name, attempt), asked(name, attempt).message


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def no_hinge(z: np.ndarray, vertices: np.ndarray, own: int) -> tuple[float, float]:
    cosines = np.delete(vertices @ z, own)
    return 0.5 * (vertices[own] @ z - 1) ** 2, float((0.5 * (cosines + 1 / 2) ** 2).mean())


def cholesky_map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.linalg.cholesky(new) @ np.linalg.inv(np.linalg.cholesky(old))


def every_pair(texts: np.ndarray, clusters: np.ndarray) -> float:
    off = (unit(texts) @ unit(texts).T)[~np.eye(len(texts), dtype=bool)]
    return float(((off + 1 / (len(texts) - 1)) ** 2).sum())


def all_files(folder: Path) -> dict[str, int]:
    return {one.name: len(list(one.iterdir())) for one in (folder / "train").iterdir()}


def small_letters(folder: Path) -> dict[str, int]:
    kept = (".png", ".jpg", ".jpeg")
    return {
        one.name: sum(p.suffix in kept and not p.name.startswith(".") for p in one.iterdir())
        for one in (folder / "train").iterdir()
    }


def by_answer(truth: np.ndarray, answers: np.ndarray, task_of: Mapping[int, int]) -> list[float]:
    task = np.array([task_of[c] for c in answers.tolist()])
    return [float((answers == truth)[task == t].mean()) for t in range(max(task_of.values()) + 1)]


def right_task(truth: np.ndarray, answers: np.ndarray, task_of: Mapping[int, int]) -> list[float]:
    mine, theirs = (np.array([task_of[c] for c in ids.tolist()]) for ids in (truth, answers))
    return [float((mine == theirs)[mine == t].mean()) for t in range(max(task_of.values()) + 1)]


@pytest.mark.parametrize(
    ("name", "attempt", "hint"),
    [
        ("check_noise_gradient", lambda p, a, w, y: by_autograd(p, a, w, y, stopped=False), "nothing flows back"),
        ("check_noise_gradient", lambda p, a, w, y: by_autograd(p, a, 0 * w, y), "in the softmax"),
        ("check_noise_gradient", lambda p, a, w, y: len(p) * by_autograd(p, a, w, y), "a mean over"),
        ("check_held", lambda a, b, w: scipy_procrustes(a, b, 0 * w + 1), "not used"),
        ("check_held", lambda a, b, w: scipy_procrustes(a, b, w).T, "turns back"),
        ("check_held", lambda a, b, w: scipy_procrustes(a, b, w**2), "once"),
        ("check_base_to_new", lambda s, y, base: two_tables(s, y, base)[::-1], "Base first"),
        (
            "check_base_to_new",
            lambda s, y, base: [(s.argmax(1) == y)[base[y] == b].mean() for b in (1, 0)],
            "among base",
        ),
        ("check_pull_push", no_hinge, "pushes nothing"),
        ("check_safe_angle", lambda k: np.degrees(np.arccos(-1 / (k - 1))), "half way"),
        ("check_safe_angle", lambda k: np.degrees(np.arccos(1 / (k - 1))) / 2, "negative"),
        ("check_draw", lambda mean, cov, noise: mean + noise @ cov, "square root"),
        ("check_draw", lambda mean, cov, noise: mean + noise @ np.linalg.cholesky(cov), "noise @ L.T"),
        ("check_draw", lambda mean, cov, noise: mean + noise * np.sqrt(np.diag(cov)), "correlated"),
        ("check_mixture", lambda p, tau: softmax(unit(p) @ unit(p)[-1]), "tau"),
        ("check_mixture", lambda p, tau: softmax(p @ p[-1] / tau), "Cosines"),
        ("check_folded", lambda w, m, b: (m.sum(0), b.sum(0)), "with its weight"),
        ("check_folded", lambda w, m, b: (np.tensordot(w, m, 1), b.sum(0)), "biases"),
        ("check_shift", lambda then, now: np.linalg.norm((now - then).mean(0)), "Divide by the spread"),
        ("check_gap", lambda a, b: np.linalg.norm(a.mean(0) - b.mean(0)), "unit vector"),
        ("check_ensemble", lambda s: unit(s.mean(axis=1)), "must not count more"),
        ("check_ensemble", lambda s: unit(s).mean(axis=1), "unit vector again"),
        ("check_confidence", lambda c, scale: softmax(c / scale), "temperature"),
        ("check_confidence", lambda c, scale: softmax(scale * c, axis=0), "Each row"),
        ("check_confidence", lambda c, s: np.exp(s * c) / np.exp(s * c).sum(axis=1, keepdims=True), "overflows"),
        ("check_transport_map", cholesky_map, "not symmetric"),
        ("check_transport_map", lambda old, new: library_map(new, old), "maps new to old"),
        ("check_w2", lambda m, s, n, t: np.linalg.norm(m - n) ** 2, "not its square"),
        ("check_separation", every_pair, "different clusters"),
        ("check_cam", lambda a, g: (a * g.mean(axis=(0, 1))).sum(-1), "relu"),
        ("check_cam", lambda a, g: np.maximum((a * g).sum(-1), 0), "One weight a channel"),
        ("check_energy", lambda heat, mask: (heat * mask).sum(), "A share"),
        ("check_energy", lambda heat, mask: (heat * (mask > 0)).sum() / heat.sum(), "counts half"),
        ("check_difference", lambda z, true: z[true] - z.max(), "True minus rival|OTHER|itself"),
        ("check_census", all_files, "images alone"),
        ("check_census", small_letters, "capitals"),
        ("check_row", by_answer, "task of the truth"),
        ("check_row", right_task, "the class must be right"),
    ],
)
def test_typical_mistakes_are_recognised(name: str, attempt: Callable[..., Any], hint: str) -> None:
    with np.errstate(all="ignore"):
        verdict = asked(name, attempt)
    assert not verdict
    assert any(part in verdict.message for part in hint.split("|")), verdict.message


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_breaks_a_notebook(name: str) -> None:
    def stub(*_given: Any) -> Any:
        raise NotImplementedError

    assert repr(asked(name, stub)) == "Not yet: write the function, then run this cell again."
    for attempt in (lambda *_: None, lambda *_: "text", lambda *_: 1 / 0, lambda: 1, lambda *_: (1, 2, 3)):
        assert not asked(name, attempt)


def test_clouds_and_tiles_hold_what_they_were_given() -> None:
    cloud = np.random.default_rng(0).normal(size=(50, 2))
    figure = teaching.clouds({"a": cloud, "b": cloud + 1}, joined=("a", "b"))
    np.testing.assert_allclose(figure.data[1].x, cloud[:, 0], rtol=1e-6)
    assert [trace.name for trace in figure.data if trace.mode == "markers"] == ["a", "b"]
    images = np.zeros((3, 3, 8, 8), np.uint8)
    maps = np.stack([np.full((2, 2), value) for value in (0.0, 1.0, 2.0)])
    figure = teaching.tiles(images, maps, ["x", "y", "z"])
    assert {trace.zmax for trace in figure.data if trace.type == "heatmap"} == {2.0}  # one scale for all
    assert len(teaching.tiles(images).data) == 3
    assert figure.layout.meta["alt"] == "3 pictures, grey, with maps over them up to 2: x, y, z."


def test_panels_of_clouds_share_scale_and_looks_and_say_where_the_clouds_are() -> None:
    cloud = np.random.default_rng(0).normal(size=(50, 2))
    panels = {"one": {"was": cloud, "is": cloud + 3}, "two": {"was": cloud, "is": cloud - 1}}
    figure = teaching.cloud_panels(panels)
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(trace.name, bool(trace.showlegend)) for trace in marks] == [
        ("was", True), ("is", True), ("was", False), ("is", False),
    ]  # fmt: skip
    assert marks[0].marker.color == marks[2].marker.color != marks[1].marker.color
    spans = [figure.layout[axis].range[1] - figure.layout[axis].range[0] for axis in ("xaxis", "yaxis", "yaxis2")]
    assert np.ptp(spans) < 1e-9 < spans[0]
    assert figure.layout.meta["alt"].startswith("Panel one: was around (")
