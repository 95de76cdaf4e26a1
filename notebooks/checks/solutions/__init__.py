"""Solutions by chapter, written by `make write` from the solution cells of the notebooks."""
