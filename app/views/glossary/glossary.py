"""Glossary: every quantity that these pages show, its formula, its range, how to read it, where it comes from."""

from app.shell import html
from app.views.glossary import lexicon

html.heading(
    "Glossary",
    "Every number on these pages: what it is, how it is computed, which way is better, and what few images do to it. "
    "The words are those of the code that computes it.",
)
lexicon.show(lexicon.search())
