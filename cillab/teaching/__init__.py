"""Checks for the exercises in the notebooks: hand in a function, hear what is right or what to look at again."""

from cillab.teaching.tour import check_etf_cosine, check_forgetting, check_summaries
from cillab.teaching.verdict import Verdict

__all__ = ["Verdict", "check_etf_cosine", "check_forgetting", "check_summaries"]
