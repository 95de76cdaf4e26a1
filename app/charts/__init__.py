"""Figures of `cillab.figures` on a page, and the tables under them."""
