"""Accuracy summaries against numbers worked out by hand, loops in Python floats, scikit-learn and SciPy."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st
from sklearn.metrics import accuracy_score, auc

from cillab.geometry import accuracy as acc

few = settings(max_examples=25, deadline=None)
fractions = st.floats(0, 1)

R = [[0.9, 0.1, 0.2], [0.7, 0.8, 0.3], [0.8, 0.5, 0.6]]
N = [10, 10, 20]


@st.composite
def matrices(draw, low: int = 2, high: int = 5) -> np.ndarray:
    t = draw(st.integers(low, high))
    return np.array(draw(st.lists(st.lists(fractions, min_size=t, max_size=t), min_size=t, max_size=t)))


def test_every_summary_by_hand() -> None:
    assert acc.a_seen(R, N).tolist() == pytest.approx([0.9, 0.75, (8 + 5 + 12) / 40])
    assert acc.a_seen_task_mean(R).tolist() == pytest.approx([0.9, 0.75, 1.9 / 3])
    assert acc.a_last(R, N) == pytest.approx(0.625)
    assert acc.a_avg(R, N) == pytest.approx((0.9 + 0.75 + 0.625) / 3)
    assert acc.forgetting_chaudhry(R) == pytest.approx((0.1 + 0.3) / 2)
    assert acc.bwt_gem(R) == pytest.approx((-0.1 - 0.3) / 2)
    assert acc.bwt_all(R) == pytest.approx((-0.2 - 0.1 - 0.3) / 3)
    assert acc.fwt_gem(R, [0.5, 0.05, 0.1]) == pytest.approx((0.05 + 0.2) / 2)
    assert acc.intransigence(R, [0.95, 0.7, 0.9]).tolist() == pytest.approx([0.05, -0.1, 0.3])
    assert acc.learning_accuracy(R) == pytest.approx(2.3 / 3)
    assert acc.performance_drop(R, N) == pytest.approx(0.275)
    m = acc.mtil(R)
    assert (m.transfer, m.last) == pytest.approx(((0.1 + 0.25) / 2, 1.9 / 3))
    assert m.average == pytest.approx(sum(map(sum, R)) / 9)
    assert m.transfer_per_task[1:] == pytest.approx((0.1, 0.25))


def test_the_two_forgettings_part_when_a_task_improves_at_the_end() -> None:
    better = [[0.5], [0.4, 0.8], [0.9, 0.7, 0.6]]  # task 0 ends above its earlier best; rows may be short
    assert acc.forgetting_chaudhry(better) == pytest.approx((-0.4 + 0.1) / 2)
    assert acc.forgetting_pilot(better) == pytest.approx((0.0 + 0.1) / 2)


@given(r=matrices())
@few
def test_summaries_match_loops(r: np.ndarray) -> None:
    t, n = len(r), list(range(3, 3 + len(r)))
    seen = [sum(n[j] * r[i][j] for j in range(i + 1)) / sum(n[: i + 1]) for i in range(t)]
    s = acc.summary(r.tolist(), n)
    assert s.a_seen == pytest.approx(seen)
    assert s.a_avg == pytest.approx(sum(seen) / t)
    chaudhry = [max(r[k][j] for k in range(j, t - 1)) - r[-1][j] for j in range(t - 1)]
    pilot = [max(r[k][j] for k in range(j, t)) - r[-1][j] for j in range(t - 1)]
    assert s.forgetting_chaudhry == pytest.approx(sum(chaudhry) / (t - 1))
    assert s.forgetting_pilot == pytest.approx(sum(pilot) / (t - 1))
    assert s.forgetting_pilot >= max(0.0, s.forgetting_chaudhry) - 1e-12
    later = [r[i][j] - r[j][j] for i in range(t) for j in range(i)]
    assert s.bwt_all == pytest.approx(sum(later) / len(later))
    assert acc.a_seen(r, [7] * t).tolist() == pytest.approx(acc.a_seen_task_mean(r).tolist())  # equal sizes


def test_entries_above_the_diagonal_are_used_only_where_stated() -> None:
    hollow = [[0.9, None, None], [0.7, 0.8, float("nan")], [0.8, 0.5, 0.6]]
    assert acc.summary(hollow, N) == acc.summary(R, N)
    with pytest.raises(ValueError, match=r"mtil needs the whole matrix: R\[0, 1\] is missing"):
        acc.mtil(hollow)
    with pytest.raises(ValueError, match=r"fwt_gem needs R\[0, 1\]"):
        acc.fwt_gem(hollow, [0, 0, 0])


def test_one_task_has_no_forgetting_to_speak_of() -> None:
    s = acc.summary([[0.8]], [5])
    assert (s.a_last, s.a_avg, s.learning_accuracy, s.performance_drop) == (0.8, 0.8, 0.8, 0)
    assert all(math.isnan(v) for v in (s.forgetting_chaudhry, s.forgetting_pilot, s.bwt_gem, s.bwt_all))
    assert math.isnan(acc.mtil([[0.8]]).transfer)


def test_harmonic_and_area() -> None:
    assert acc.harmonic(0.8, 0.4) == pytest.approx(2 / (1 / 0.8 + 1 / 0.4))
    assert acc.harmonic(0.9, 0.0) == acc.harmonic(0.0, 0.0) == 0
    assert acc.a_auc([0.2, 0.4, 0.9]) == pytest.approx(0.5)
    assert acc.a_auc([0.2, 0.4, 0.9], [0, 10, 40]) == pytest.approx(auc([0, 10, 40], [0.2, 0.4, 0.9]) / 40)


@given(seed=st.integers(0, 2**31))
@few
def test_row_and_bias_match_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = np.array([7, 401, 3, 12, 55, 9])  # two per task, sparse ids
    task_of = {int(c): i // 2 for i, c in enumerate(classes)}
    labels, predictions = rng.choice(classes, 80), rng.choice(classes, 80)
    row = acc.accuracy_matrix_row(predictions, labels, task_of, tasks=4)
    tasks = np.array([task_of[int(c)] for c in labels])
    for j in range(3):
        assert row[j] == pytest.approx(accuracy_score(labels[tasks == j], predictions[tasks == j]))
    assert math.isnan(row[3])
    bias = acc.prediction_bias(predictions, labels, task_of, newest=2)
    old = [(p, y) for p, y in zip(predictions, labels, strict=True) if task_of[int(y)] < 2]
    new = [(p, y) for p, y in zip(predictions, labels, strict=True) if task_of[int(y)] == 2]
    assert bias.old_accuracy == pytest.approx(np.mean([p == y for p, y in old]))
    assert bias.gap == pytest.approx(np.mean([p == y for p, y in new]) - bias.old_accuracy)
    assert bias.old_called_new == pytest.approx(np.mean([task_of[int(p)] == 2 for p, _ in old]))
    assert bias.new_called_old == pytest.approx(np.mean([task_of[int(p)] < 2 for p, _ in new]))
    assert bias.called_new == pytest.approx(np.mean([task_of[int(p)] == 2 for p in predictions]))
    assert bias.are_new == pytest.approx(len(new) / 80)


@given(seed=st.integers(0, 2**31))
@few
def test_decomposition_matches_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, task_of = [5, 2, 8, 40], {5: 0, 2: 0, 8: 1, 40: 1}
    labels = rng.choice(classes, 60)
    logits = rng.normal(size=(60, 4)) + 1.5 * (labels[:, None] == np.array(classes))
    d = acc.task_decomposition(logits, labels, classes, task_of)
    right, right_task, within = [], [], []
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        best = classes[row.index(max(row))]
        own = [c for c in classes if task_of[c] == task_of[y]]
        right.append(best == y)
        right_task.append(task_of[best] == task_of[y])
        within.append(max(own, key=lambda c: row[classes.index(c)]) == y)
    assert (d.accuracy, d.task_id, d.within_task) == pytest.approx(
        (np.mean(right), np.mean(right_task), np.mean(within))
    )
    assert d.product == pytest.approx(np.mean(right_task) * np.mean(within))
    assert d.accuracy == pytest.approx(np.mean(np.array(right_task) & np.array(within)))  # the identity behind it
    order = rng.permutation(4)
    swapped = acc.task_decomposition(logits[:, order], labels, [classes[i] for i in order], task_of)
    assert (swapped.accuracy, swapped.within_task) == (d.accuracy, d.within_task)


def test_calibration_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    c = acc.calibration_error(confidence, correct, bins=10)
    assert c.value == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)
    assert c.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert c.accuracy[9] == 0.75
    edge = acc.calibration_error(np.array([0.0, 1.0]), np.array([False, True]), bins=2)
    assert edge.value == 0
    assert edge.counts.tolist() == [1, 1]


@given(seed=st.integers(0, 2**31))
@few
def test_calibration_matches_a_loop_and_splits_by_age(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), 50)
    labels, classes, task_of = rng.choice([4, 6, 9], 50), [4, 6, 9], {4: 0, 6: 0, 9: 1}

    def oracle(rows: np.ndarray) -> float:
        total = 0.0
        for b in range(15):
            inside = [i for i in rows if b / 15 < p[i].max() <= (b + 1) / 15]
            if inside:
                right = np.mean([classes[p[i].argmax()] == labels[i] for i in inside])
                total += len(inside) * abs(right - np.mean([p[i].max() for i in inside]))
        return total / len(rows)

    old, new = acc.calibration_by_age(p, labels, classes, task_of, newest=1)
    assert old.value == pytest.approx(oracle(np.flatnonzero(labels != 9)))
    assert new.value == pytest.approx(oracle(np.flatnonzero(labels == 9)))


@given(values=st.lists(st.floats(-5, 5), min_size=2, max_size=8), level=st.floats(0.5, 0.99))
@few
def test_t_interval_matches_scipy(values: list[float], level: float) -> None:
    got = acc.t_interval(values, level)
    scale = scipy.stats.sem(values)
    assert got.mean == pytest.approx(np.mean(values), abs=1e-12)
    if scale > 1e-9:
        low, high = scipy.stats.t.interval(level, len(values) - 1, np.mean(values), scale)
        assert (got.low, got.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@given(seed=st.integers(0, 2**31), n=st.integers(2, 9))
@few
def test_paired_difference_matches_scipy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    got, expected = acc.paired_difference(a, b), scipy.stats.ttest_rel(a, b)
    assert (got.t, got.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-8)
    assert got.wins == int(np.sum(a > b))
    assert got.interval.half_width == pytest.approx(acc.t_interval(a - b).half_width)


def test_pairing_sees_what_two_intervals_cannot() -> None:
    base = np.array([0.60, 0.70, 0.80])
    paired = acc.paired_difference(base + np.array([0.010, 0.011, 0.012]), base)
    assert paired.p_value < 0.01
    assert acc.t_interval(base).half_width > 0.2


def test_few_and_equal_seeds() -> None:
    assert math.isnan(acc.t_interval([0.5]).half_width)
    assert math.isnan(acc.paired_difference([0.5], [0.4]).p_value)
    same = acc.paired_difference([0.5, 0.5], [0.5, 0.5])
    assert (same.t, same.p_value, same.wins) == (0, 1, 0)
    assert acc.paired_difference([1.0, 2.0], [0.0, 1.0]).p_value == 0


def test_no_module_of_the_geometry_loads_torch() -> None:
    code = "import sys; from cillab import geometry; [getattr(geometry, n) for n in dir(geometry)]"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_names_its_modules_and_refuses_others() -> None:
    from cillab import geometry

    assert geometry.etf.ideal_cosine(3) == -0.5
    assert "moments" in dir(geometry)
    with pytest.raises(AttributeError, match=r"no module .transprot.\. Valid: accuracy"):
        _ = geometry.transprot


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: acc.a_seen([[0.5], [0.5, 80.0]], [1, 1]), r"fractions in \[0, 1\], got R\[1, 1\] = 80"),
        (lambda: acc.a_seen([[0.5], [None, 0.5]], [1, 1]), r"lacks R\[1, 0\]"),
        (lambda: acc.a_seen([[0.5], [0.5]], [1, 1]), "row i with at least i . 1 entries"),
        (lambda: acc.a_seen([], []), "one row per task"),
        (lambda: acc.a_seen(R, [1, 2]), "sizes must be 3 positive numbers"),
        (lambda: acc.fwt_gem(R, [0.0]), "one number per task"),
        (lambda: acc.intransigence(R, [0.0]), "one number per task"),
        (lambda: acc.a_auc([0.1, 0.2], [5, 5]), "increasing"),
        (lambda: acc.accuracy_matrix_row(np.array([1]), np.array([2]), {1: 0}), r"no task for classes \[2\]"),
        (lambda: acc.accuracy_matrix_row(np.array([1]), np.array([1]), {1: 3}, 2), "reach task 3.*2 tasks"),
        (lambda: acc.calibration_error(np.array([1.5]), np.array([True])), "1 of 1 confidences outside"),
        (lambda: acc.t_interval([]), "finite values"),
        (lambda: acc.t_interval([0.1, math.nan]), "finite values"),
        (lambda: acc.paired_difference([0.1], [0.1, 0.2]), "same seeds on both sides, got 1 and 2"),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_task_without_test_images_counts_nowhere() -> None:
    """Neither as 0 % nor as a task: its column is blank."""
    blank = [[0.5], [0.5, None], [0.4, None, 0.8]]
    np.testing.assert_allclose(acc.a_seen(blank, [1, 1, 3]), [0.5, 0.5, 0.7])
    np.testing.assert_allclose(acc.a_seen_task_mean(blank), [0.5, 0.5, 0.6])
    assert np.isnan(acc.a_seen_task_mean([[None], [None, 0.5]])[0])
