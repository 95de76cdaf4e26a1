"""Several seeds: every run as a dot, the mean with its t-interval, and two learners seed by seed."""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go

from cillab.figures.palette import ACCENT, MUTED, TEXT, Theme, see_through, style
from cillab.figures.picture import Picture
from cillab.figures.words import empty
from cillab.runs.seeds import Group


def draw_seeds(groups: Sequence[Group], names: Sequence[str], by: str = "a_last", theme: Theme = "light") -> Picture:
    """One row per learner, best on top: dots are seeds, the bar is the interval of the mean (none for one seed)."""
    if not groups:
        return empty("seeds", "No finished run yet.", theme)
    figure = go.Figure()
    places = list(range(len(groups)))[::-1]
    colour = ACCENT[theme]  # of all: rows have names, and the hues of curves on the same page belong to runs
    for group, name, place in zip(groups, names, places, strict=True):
        i = group.interval
        if len(group.values) > 1:
            figure.add_scatter(
                x=[i.low, i.high], y=[place, place], mode="lines", line={"color": colour, "width": 3}, name=name,
                hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(
            x=list(group.values.values()), y=[place] * len(group.values), mode="markers", name=name,
            marker={"color": see_through(colour, 0.5), "size": 9}, customdata=list(group.values),
            hovertemplate=f"{name}<br>seed %{{customdata}}<br><b>%{{x:.2%}}</b><extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[i.mean], y=[place], mode="markers", name=name,
            marker={"color": colour, "size": 13, "line": {"width": 1.5, "color": TEXT[theme]}},
            hovertemplate=f"{name}<br>mean over {len(group.values)} seeds<br><b>%{{x:.2%}}</b><extra></extra>",
        )  # fmt: skip
    style(figure, theme, name="seeds", height=110 + 44 * len(groups), showlegend=False, margin={"l": 10})
    figure.update_yaxes(
        tickvals=places, ticktext=list(names), range=[-0.6, len(groups) - 0.4], showgrid=False,
        tickfont={"size": 12.5, "color": TEXT[theme]},
    )  # fmt: skip
    ends = [v for group in groups for v in (*group.values.values(), group.interval.low, group.interval.high)]
    low, high = min(v for v in ends if isfinite(v)), max(v for v in ends if isfinite(v))
    # Beside a single seed, too, something is seen; of shares nothing beyond 0 and 1.
    pad = max(0.08 * (high - low), 0.02)
    reach = [max(low - pad, -0.01) if low >= 0 else low - pad, min(high + pad, 1.01) if high <= 1 else high + pad]
    figure.update_xaxes(tickformat=".1%", title_text=by, linecolor=MUTED[theme], range=reach, nticks=8)
    notes = (
        "Bars are 95 % intervals of Student's t over seeds: they cover class orders and draws, not the choice of test "
        "images. Without a bar there is one seed.",
    )
    return Picture(figure, " ".join(group.sentence for group in groups), notes)
