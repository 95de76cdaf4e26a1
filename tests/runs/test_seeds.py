"""Seeds: SciPy's intervals and paired t-test on numbers that the test wrote into run folders."""

import numpy as np
import pytest
from scipy import stats

from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.runs.seeds import compare, over_seeds, seeds_text
from cillab.runs.table import table
from tests.runs.test_table import write

OURS, THEIRS = {1: 0.70, 2: 0.74, 3: 0.69}, {1: 0.66, 2: 0.71, 3: 0.66, 4: 0.9}


@pytest.fixture
def rows(tmp_path):
    for learner, values in (("min", OURS), ("finetune", THEIRS)):
        for seed, value in values.items():
            write(tmp_path / f"{learner}{seed}", value, learner=learner, seed=seed, split_digest=f"{seed:012d}")
    write(tmp_path / "other", 0.1, split="B0-Inc5", seed=1)
    write(tmp_path / "going", None, seed=5)
    return table(tmp_path).rows


def test_intervals_are_students(rows) -> None:
    groups = {(g.learner, len(g.values)): g for g in over_seeds(rows)}
    ours = groups["min", 3]
    values = list(OURS.values())
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (ours.interval.low, ours.interval.high) == pytest.approx((low, high))
    assert ours.values == OURS
    assert "over 3 seeds (95 % t-interval)." in ours.sentence
    assert "its spread is unknown" in groups["min", 1].sentence  # another split: another experiment
    assert [g.interval.mean for g in over_seeds(rows)] == sorted(
        (g.interval.mean for g in over_seeds(rows)), reverse=True
    )


def test_learners_are_compared_on_the_seeds_they_share(rows) -> None:
    by = {(g.learner, len(g.values)): g for g in over_seeds(rows)}
    found = compare(by["min", 3], by["finetune", 4])
    oracle = stats.ttest_rel(list(OURS.values()), [THEIRS[s] for s in OURS])
    assert (found.t, found.p_value, found.wins) == pytest.approx((oracle.statistic, oracle.pvalue, 3))
    with pytest.raises(InvalidRequestError, match="not run under the same protocol"):
        compare(by["min", 3], by["min", 1])
    with pytest.raises(UnknownNameError, match="number 'a_first'"):
        over_seeds(rows, "a_first")


def test_seeds_that_drew_their_images_are_one_experiment(tmp_path) -> None:
    for seed, value in OURS.items():
        write(tmp_path / f"drawn{seed}", value, seed=seed, shots=4, data_digest=f"{seed}")
        write(tmp_path / f"all{seed}", value, seed=seed, data_digest=f"{seed}")
    assert sorted(len(group.values) for group in over_seeds(table(tmp_path).rows)) == [1, 1, 1, 3]


def test_text_keeps_protocols_apart_and_pairs_inside_one(rows) -> None:
    text = seeds_text(rows)
    parts = text.split("\n\n**")
    assert len(parts) == 2  # B0-Inc10 and B0-Inc5
    long = next(part for part in parts if "B0-Inc10" in part)
    # the fourth seed of finetune has no partner: the difference is over three
    oracle = stats.ttest_rel([THEIRS[s] for s in OURS], list(OURS.values()))
    low, high = oracle.confidence_interval(0.95)
    gap = np.mean([THEIRS[s] - OURS[s] for s in OURS])
    assert f"finetune - min: {100 * gap:+.2f} points" in long
    assert f"{100 * low:+.2f} to {100 * high:+.2f}, over 3 shared seeds" in long
    with pytest.raises(UnknownNameError):
        seeds_text(rows, "beauty")
