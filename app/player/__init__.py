"""The player on a page, its plane, and what is asked of the learner from it."""
