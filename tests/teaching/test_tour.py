"""Every check accepts a right answer, refuses the typical wrong ones with their hint, and survives nonsense."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks.chapter_00 import check_etf_cosine, check_forgetting, check_summaries

from cillab.geometry import accuracy, etf
from cillab.teaching import Verdict, fresh

CHECKS = [check_summaries, check_forgetting, check_etf_cosine]


def summaries(matrix: np.ndarray) -> tuple[float, float]:
    ones = np.ones(len(matrix))
    return accuracy.a_last(matrix, ones), accuracy.a_avg(matrix, ones)


def chaudhry(matrix: np.ndarray) -> float:
    return accuracy.forgetting_chaudhry(matrix)


def test_the_library_passes() -> None:
    assert check_summaries(summaries)
    assert check_forgetting(chaudhry)
    assert check_etf_cosine(etf.ideal_cosine)


def diagonal(matrix: np.ndarray) -> tuple[float, float]:
    return matrix[-1, -1], matrix.diagonal().mean()


def from_when_learnt(matrix: np.ndarray) -> float:
    return float((matrix.diagonal()[:-1] - matrix[-1, :-1]).mean())


def last_row_included(matrix: np.ndarray) -> float:
    return float((np.nanmax(matrix, axis=0) - matrix[-1])[:-1].mean())


def too_many_tasks(matrix: np.ndarray) -> float:
    return float((np.nanmax(matrix, axis=0) - matrix[-1]).mean())


@pytest.mark.parametrize(
    ("check", "attempt", "hint"),
    [
        (check_summaries, diagonal, "how well each task was learnt"),
        (check_summaries, lambda m: (m[-1].mean(), np.mean([row.mean() for row in m])), "above the diagonal"),
        (check_summaries, lambda m: (m[-1].mean(), np.nanmean(m)), "not all entries"),
        (check_forgetting, from_when_learnt, "may come after"),
        (check_forgetting, last_row_included, "negative forgetting"),
        (check_forgetting, too_many_tasks, "divide by T - 1"),
        (check_forgetting, lambda m: -chaudhry(m), "best minus last"),
        (check_etf_cosine, lambda k: -1 / k, "opposite directions"),
    ],
)
def test_typical_mistakes_are_recognised(check: Callable[..., Verdict], attempt: Any, hint: str) -> None:
    verdict = check(attempt)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_breaks_a_notebook(check: Callable[..., Verdict]) -> None:
    def stub(_given: Any) -> Any:
        raise NotImplementedError

    assert repr(check(stub)) == "Not yet: write the function, then run this cell again."
    for attempt in (lambda _: None, lambda _: "text", lambda _: 1 / 0, lambda: 1, lambda _: (1, 2, 3)):
        assert not check(attempt)


def test_a_fresh_folder_is_one_that_is_not_there(tmp_path) -> None:
    assert fresh(tmp_path / "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert fresh(tmp_path / "run") == tmp_path / "run-3"
    assert fresh(str(tmp_path / "other")) == tmp_path / "other"
