"""What every figure function returns: a plotly figure and one sentence that states what is in it."""

from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, its finding in one sentence with numbers, and what one must know to read it."""

    figure: go.Figure
    sentence: str  # also the alternative text
    notes: tuple[str, ...] = field(default=())

    def show(self, *args: Any, **options: Any) -> None:
        """Open the figure with plotly's renderer."""
        self.figure.show(*args, **options)

    def html(self, *, include_plotlyjs: bool | str = "cdn") -> str:
        """A `<figure>` with the sentence and the notes under it; pass True to make it stand alone."""
        body = self.figure.to_html(full_html=False, include_plotlyjs=include_plotlyjs, config={"displaylogo": False})
        notes = "".join(f"<br><small>{_escape(note)}</small>" for note in self.notes)
        return f"<figure>{body}<figcaption>{_escape(self.sentence)}{notes}</figcaption></figure>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """Notebooks show the figure as plotly does, with the sentence as plain text."""
        bundle = dict(self.figure._repr_mimebundle_(include, exclude, **options) or {})
        bundle["text/plain"] = self.sentence
        return bundle


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
