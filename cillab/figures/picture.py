"""What every figure function returns: a plotly figure and one sentence that states what is in it."""

from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from cillab.figures.numbers import as_csv

# What every page with figures has in its head: a phone shows it in its own pixels, and a figure that is wider than the
# window is moved sideways under its sentence, which stays.
SCREEN = '<meta name="viewport" content="width=device-width, initial-scale=1">'
NARROW = "figure{overflow-x:auto}figure>div{min-width:38rem}figcaption{position:sticky;left:0}"


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, its finding in one sentence with numbers, and what one must know to read it."""

    figure: go.Figure
    sentence: str  # also the alternative text
    notes: tuple[str, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Is there nothing to see but the reason why?"""
        return not self.figure.data

    def show(self, *args: Any, **options: Any) -> None:
        """Open the figure with plotly's renderer."""
        self.figure.show(*args, **options)

    def html(self, *, include_plotlyjs: bool | str = "cdn") -> str:
        """A `<figure>` with the sentence and the notes under it; pass True to make it stand alone."""
        body = self.figure.to_html(full_html=False, include_plotlyjs=include_plotlyjs, config={"displaylogo": False})
        notes = "".join(f"<br><small>{_escape(note)}</small>" for note in self.notes)
        said = _escape(self.sentence)
        return f'<figure aria-label="{said}">{body}<figcaption>{said}{notes}</figcaption></figure>'

    def page(self, title: str, ground: str = "#FFFFFF") -> str:
        """A whole page that needs nothing else, opens offline and keeps the figure alive."""
        style = f"body{{margin:2rem auto;max-width:70rem;padding:0 1rem;font-family:sans-serif;background:{ground}}}"
        ink = self.figure.layout.template.layout.font.color or "#1F2933"
        head = f"<meta charset='utf-8'>{SCREEN}<title>{_escape(title)}</title>"
        head += f"<style>{NARROW}{style}body{{color:{ink}}}</style>"
        body = f"<h1>{_escape(title)}</h1>{self.html(include_plotlyjs=True)}"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>"

    def csv(self) -> str:
        """The plotted numbers, one row per point."""
        return as_csv(self.figure)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """Notebooks show the figure as plotly does, with the sentence as plain text."""
        bundle = dict(self.figure._repr_mimebundle_(include, exclude, **options) or {})
        bundle["text/plain"] = self.sentence
        return bundle


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
