"""What the probe reads beyond accuracy and collapse: against loops, and against hand-made maps and masks."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cillab.core.pixels import Preprocessing
from cillab.geometry.moments import Moments
from cillab.geometry.retention import RidgeSums, ridge_probe
from cillab.lab import measures
from cillab.lab.measures import Seen

SEEN = (5, 2, 9, 7)
TASKS = {5: 0, 2: 0, 9: 1, 7: 1}


def seen(seed: int, ids: tuple[int, ...], n: int = 12) -> Seen:
    g = np.random.default_rng(seed)
    labels = np.tile(ids, n)
    centres = 2 * np.random.default_rng(0).normal(size=(10, 6))
    features = centres[labels] + g.normal(size=(len(labels), 6))
    logits = g.normal(size=(len(labels), 4)) + 2 * (labels[:, None] == np.array(SEEN))
    return Seen(features.astype(np.float32), logits.astype(np.float32), labels)


def test_fresh_heads_by_a_loop() -> None:
    tests, trains = [seen(1, (5, 2)), seen(2, (9, 7))], [seen(3, (5, 2)), seen(4, (9, 7))]
    x, y = np.concatenate([t[0] for t in trains]), np.concatenate([t[2] for t in trains])
    means = np.stack([x[y == c].mean(axis=0) for c in SEEN])
    arrays, scalars = measures.fresh_heads(tests, trains, means, SEEN)
    probe = ridge_probe(x, y)
    for row, (features, _, labels) in enumerate(tests):
        nearest = [SEEN[int(((means - f) ** 2).sum(axis=1).argmin())] for f in features]
        assert arrays["accuracy/nme"][row] == pytest.approx(np.mean(np.array(nearest) == labels))
        assert arrays["accuracy/fresh"][row] == pytest.approx((probe.predict(features) == labels).mean())
    first = ridge_probe(*[trains[0][0], trains[0][2]])
    then = arrays["accuracy/fresh_then"]
    assert then[0] == pytest.approx((first.predict(tests[0][0]) == tests[0][2]).mean())
    assert then[1] == arrays["accuracy/fresh"][1]  # the newest task: nothing has come since
    alone, _ = measures.fresh_heads(tests[:1], trains[:1], means[:2], SEEN[:2])
    assert alone["accuracy/fresh_then"][0] == then[0]  # features that do not change forget nothing
    assert scalars["accuracy/nme"] == pytest.approx(arrays["accuracy/nme"].mean())


def test_a_head_is_fitted_once_as_long_as_nothing_moves(monkeypatch) -> None:
    """And what is remembered has the numbers, bit for bit, of a look that remembers nothing (a resumed run)."""
    solved = []
    own = RidgeSums.head
    monkeypatch.setattr(RidgeSums, "head", lambda sums, *a: solved.append(1) or own(sums, *a))
    pairs = [(seen(2 * i, c), seen(2 * i + 1, c)) for i, c in enumerate([(5, 2), (9, 7), (1, 3), (4, 6)])]
    then = measures.FreshThen()

    def look(count: int, moved: int | None = None) -> list[np.ndarray]:
        tests, trains = (list(one) for one in zip(*pairs[:count], strict=True))
        if moved is not None:
            trains[moved] = trains[moved]._replace(features=trains[moved].features + np.float32(1e-3))
        found, again = then.look(trains, tests), measures.FreshThen()
        oracle = []
        for end in range(1, count + 1):
            together = Seen.together(trains[:end])
            oracle.append(ridge_probe(together.features, together.labels))
        for mine, fresh, head, test in zip(found, again.look(trains, tests), oracle, tests, strict=True):
            np.testing.assert_array_equal(mine, fresh)
            np.testing.assert_array_equal(mine, head.predict(test.features) == test.labels)
        assert then.newest is not None and again.newest is not None
        np.testing.assert_array_equal(then.newest.weight, again.newest.weight)
        np.testing.assert_allclose(then.newest.weight, oracle[-1].weight, atol=1e-12)
        return found

    for count, wanted in ((1, 1), (2, 1), (4, 2), (4, 0)):
        solved.clear()
        look(count)
        assert len(solved) == wanted + 2 * count  # those of the look that remembers nothing, and of the oracle
    solved.clear()
    look(4, moved=2)
    assert len(solved) == 2 + 8
    look(4)
    look(3)  # the head of three tasks again, and not of four


def test_axes_and_spectrum_give_the_covariance_back() -> None:
    features, _, labels = seen(3, (5, 2, 9))
    moments = Moments.of(features, labels, scatter="pooled")
    axes = measures.within_axes(moments)["nc/axes_within"].astype(np.float64)
    covariance = moments.pooled_within()
    values = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(axes.T @ np.diag(values) @ axes, covariance, atol=2e-3 * values[0])
    few = measures.within_axes(moments, most=2)["nc/axes_within"]
    np.testing.assert_array_equal(few, axes[:2].astype(np.float16))
    assert measures.within_axes(Moments(4)) == {}


def test_constant_features_leave_the_fresh_head_out() -> None:
    still = [Seen(np.ones((4, 3)), np.zeros((4, 2)), np.array([1, 2, 1, 2]))]
    arrays, _ = measures.fresh_heads(still, still, np.ones((2, 3)), (1, 2))
    assert set(arrays) == {"accuracy/nme"}


def test_decisions_multiply_and_bins_hold_every_image() -> None:
    tests = [seen(1, (5, 2)), seen(2, (9, 7))]
    arrays, scalars = measures.decisions(tests, SEEN, TASKS, index=1)
    logits, labels = np.concatenate([t[1] for t in tests]), np.concatenate([t[2] for t in tests])
    guess = np.array(SEEN)[logits.argmax(axis=1)]
    right_task = np.array([TASKS[int(a)] == TASKS[int(b)] for a, b in zip(guess, labels, strict=True)])
    assert scalars["accuracy/task_id"] == pytest.approx(right_task.mean())
    assert arrays["accuracy/task_id"][1] == pytest.approx(right_task[24:].mean())
    assert arrays["calibration/old"][2].sum() == arrays["calibration/new"][2].sum() == 24
    confidence = softmax(logits.astype(np.float64), axis=1).max(axis=1)[:24]
    assert np.nansum(arrays["calibration/old"][0] * arrays["calibration/old"][2]) == pytest.approx(
        float(confidence.sum())
    )
    first, _ = measures.decisions(tests[:1], SEEN, TASKS, index=0)
    assert "calibration/old" not in first


def test_maps_on_and_off_the_object_and_no_map_at_all() -> None:
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[:, :4, :4] = True
    maps = torch.zeros(3, 2, 2)
    maps[0, 0, 0], maps[1, 1, 1], maps[2] = 3.0, 2.0, torch.nan
    flat = (0.5, 0.5, 0.5)
    found = measures.on_object({"true": maps}, masks, Preprocessing(8, 1.0, "bicubic", flat, flat))
    np.testing.assert_allclose(found["cam_energy/true"], [1, 0, np.nan], atol=1e-6)
    np.testing.assert_array_equal(found["cam_pointing/true"], [1, 0, np.nan])
    np.testing.assert_allclose(found["cam_mask"], 0.25, atol=0.05)
    assert measures.on_object_means(found)["cam/energy/true"] == pytest.approx(0.5)
    assert measures.on_object_means({"cam_energy/true": np.full(2, np.nan)}) == {}


THIRDS = {5: "tail", 2: "head", 9: "medium", 7: "head"}


def test_accuracy_by_rarity_by_a_loop() -> None:
    tests = [seen(1, (5, 2)), seen(2, (9, 7))]
    logits, labels = np.concatenate([t[1] for t in tests]), np.concatenate([t[2] for t in tests]).tolist()
    for tasks in (None, TASKS):
        hits: dict[str, list[bool]] = {"head": [], "medium": [], "tail": []}
        for row, y in zip(logits.tolist(), labels, strict=True):
            rivals = [k for k, c in enumerate(SEEN) if tasks is None or tasks[c] == tasks[y]]
            hits[THIRDS[y]].append(SEEN[max(rivals, key=row.__getitem__)] == y)
        found = measures.by_rarity(tests, SEEN, THIRDS, tasks)
        assert found == pytest.approx({f"accuracy/{name}": np.mean(own) for name, own in hits.items()})
    assert measures.by_rarity(tests, SEEN, {}) == {}


def test_base_and_new_never_compete() -> None:
    base, new = seen(1, (5, 2)), seen(2, (9, 7))
    base[1][:, 2:] += 100  # new classes win everywhere
    alone = measures.base_and_new([base], SEEN, TASKS)
    assert set(alone) == {"accuracy/base_within"}
    found = measures.base_and_new([base, new], SEEN, TASKS)
    b = (np.array(SEEN)[base[1][:, :2].argmax(axis=1)] == base[2]).mean()
    n = (np.array(SEEN)[2 + new[1][:, 2:].argmax(axis=1)] == new[2]).mean()
    assert (found["accuracy/base_within"], found["accuracy/new_within"]) == pytest.approx((b, n))
    assert found["accuracy/base_within"] == alone["accuracy/base_within"]
    assert found["accuracy/harmonic"] == pytest.approx(2 * b * n / (b + n))
