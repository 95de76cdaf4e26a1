"""A chart in the form that Plotly draws once.

Streamlit hands every chart to Plotly twice: as it came, then as a copy of it. Plotly skips the second where it finds
nothing new. But a copy of `template`, of `meta` or of a typed array it takes for another one, whatever stands in it,
and a list for the same one only where `layout.datarevision` is the same. So the template is written out, numbers are
lists, and the revision is a name for what the chart shows.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from hashlib import md5
from itertools import cycle
from math import isfinite
from typing import Any

import numpy as np

_AXES = ("xaxis", "yaxis", "coloraxis")  # of these a template has one for all that are numbered
_ITEMS = {"annotationdefaults": "annotations", "shapedefaults": "shapes", "imagedefaults": "images"}


def once(figure: Mapping[str, Any]) -> dict[str, Any]:
    """The same chart, from what `Figure.to_dict` gives: no template, no `meta`, no typed array, and a revision."""
    layout = dict(figure["layout"])
    layout.pop("meta", None)
    template = layout.pop("template", {})
    looks = {kind: cycle(traces) for kind, traces in template.get("data", {}).items()}
    data = [_over(next(looks[kind]), trace) if (kind := trace["type"]) in looks else trace for trace in figure["data"]]
    found = {
        **figure,
        "data": [_listed({name: value for name, value in trace.items() if name != "meta"}) for trace in data],
        "layout": _listed(_written(template.get("layout", {}), layout)),
    }
    shown = repr((found["data"], found["layout"])).encode()
    found["layout"]["datarevision"] = md5(shown, usedforsecurity=False).hexdigest()
    return found


def _written(template: Mapping[str, Any], layout: Mapping[str, Any]) -> dict[str, Any]:
    """A layout with what its template says."""
    found = dict(layout)
    for name, look in template.items():
        if (items := _ITEMS.get(name)) is None:
            for own in sorted(_numbered(layout, name)) if name in _AXES else [name]:
                found[own] = _over(look, layout.get(own))
        elif items in layout:
            found[items] = [_over(look, item) for item in layout[items]]
    return found


def _numbered(layout: Iterable[str], name: str) -> set[str]:
    """The axes that a look of `name` is for: the first, whether named or not, but for a figure of three dimensions."""
    return {own for own in layout if own.rstrip("0123456789") == name} | (set() if "scene" in layout else {name})


def _over(look: Any, own: Any) -> Any:
    """`own` where it says something, else `look`."""
    if not isinstance(look, Mapping) or not isinstance(own, Mapping):
        return look if own is None else own
    return {**look, **{name: _over(look.get(name), value) for name, value in own.items()}}


def _listed(part: Any) -> Any:
    """The same with lists where Plotly would make typed arrays; what is no finite number is None, as in JSON."""
    match part:
        case {"bdata": str(encoded), "dtype": dtype}:
            array = np.frombuffer(b64decode(encoded), dtype)
            return _listed(array.reshape([int(side) for side in str(part.get("shape", array.size)).split(",")]))
        case np.ndarray():
            finite = np.isfinite(part).all() if part.dtype.kind == "f" else part.dtype.kind != "O"
            return part.tolist() if finite else _listed(part.tolist())
        case Mapping():
            return {name: _listed(value) for name, value in part.items()}
        case list() | tuple():
            return [_listed(item) for item in part]
        case float() if not isfinite(part):
            return None
        case _:
            return part
