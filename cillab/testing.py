"""The battery that every learner passes, for learners that live anywhere.

from cillab.testing import check_learner

def test_battery():
    check_learner("my-method")
"""

from cillab.learners.checks import CHECKS, Bench, check_learner, make_bench

__all__ = ["CHECKS", "Bench", "check_learner", "make_bench"]
