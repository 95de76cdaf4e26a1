"""Checks of the course's exercises, one module per chapter, and their solutions in `solutions` (written by `make write`).

They stand beside the notebooks and are not part of the installed library: a notebook finds them in its own folder.
`EXERCISES` of a chapter names its exercises in order, each with the check of it.
"""
