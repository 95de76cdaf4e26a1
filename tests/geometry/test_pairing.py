"""`paired` against SciPy's exact binomial test, a simulation of its coverage, and what pairing is for."""

import numpy as np
import pytest
from scipy.stats import binomtest

from cillab.teaching import paired, share_error


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, first, second, neither])
    b = np.repeat([True, False, True, False], [both, first, second, neither])
    return a, b


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (7, 2), (30, 30), (5, 41)])
def test_p_is_the_exact_binomial(first: int, second: int) -> None:
    found = paired(*answers(50, first, second, 10))
    wanted = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(wanted)
    assert (found.only_first, found.only_second, found.images) == (first, second, 60 + first + second)


def test_swapping_turns_the_sign() -> None:
    a, b = answers(40, 12, 3, 45)
    one, other = paired(a, b), paired(b, a)
    assert one.difference == pytest.approx(0.09) == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == other.p_value


def test_the_order_of_images_does_not_matter_and_the_pairing_does() -> None:
    rng = np.random.default_rng(0)
    a, b = answers(400, 30, 10, 60)
    shuffled = rng.permutation(len(a))
    assert paired(a[shuffled], b[shuffled]) == paired(a, b)
    assert paired(a, b).clear
    assert not paired(a, rng.permutation(b)).clear  # the same two accuracies, no pairs: three times as wide


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.12, 0.07, 0.21])  # both, first alone, second alone, neither
    hits = 0
    for _ in range(2000):
        found = paired(*answers(*rng.multinomial(150, shares).tolist()))
        hits += found.low <= 0.05 <= found.high
    assert 0.93 < hits / 2000 < 0.97


def test_what_is_no_list_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\)"):
        paired([True, False, True], [True, False])
    with pytest.raises(ValueError, match="was the answer right"):
        paired(np.array([3, 7]), np.array([3, 2]))


def test_the_error_of_a_share() -> None:
    assert share_error([0.5, 0.0], 100) == pytest.approx([0.098, 0], abs=1e-3)
    assert "+9.0 points" in str(paired(*answers(40, 12, 3, 45)))
