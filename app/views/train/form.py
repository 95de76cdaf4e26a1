"""The form of the Train page: what a run is made of, drawn from the catalogue of the library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.shell import folders, html, safety, state
from app.shell.store import runs_folder
from app.views.train import fields, formulas
from cillab.core.errors import CillabError, one_line
from cillab.lab import queue
from cillab.lab.spec import RunSpec
from cillab.protocol.named import find, homes, must_allow_training, must_be_here, named_sets

_FIRST = ("learner", "data", "backbone", "split", "seed")  # drawn by hand, on top
_NOT_HERE = {*_FIRST, "scenario", "params", "out", "weights"}
_KEPT = ("learner", "seed", "params", "out", "weights")  # what a starting point leaves as it is
_MATTER = 3  # settings of a method that stand open
_OFTEN = ("epochs", "lr")  # of what is learnt by descent, these matter first
_ACROSS = 4
_NEEDS = {
    "clip": "a CLIP backbone",
    "vit": "a ViT backbone",
    "class-names": "class names that are words",
}


@dataclass(frozen=True)
class Request:
    """What the form says at the moment. `spec` is None when it cannot be, and `problem` says why."""

    name: str
    spec: RunSpec | None
    problem: str = ""


def show(known: Mapping[str, Any]) -> Request:
    """Draw the form; returns what it asks for."""
    learner = _method(known)
    method, properties = known["learners"][learner], known["spec"]["properties"]
    data, backbone = _what(known)
    values: dict[str, Any] = {"learner": learner, "data": data, "backbone": backbone}
    values["scenario"] = _scenario(known["scenarios"])
    values |= _grid({name: properties[name] for name in ("split", "seed")}, "spec")
    if not known["scenarios"][values["scenario"]["name"]]["takes_split"]:
        del values["split"]  # it says itself which classes form a task
    params, wrong = _hyper_parameters(learner, method)
    with st.expander("More about the run", icon=":material/tune:"):
        more = [name for name in properties if name not in _NOT_HERE]
        values |= _grid({name: properties[name] for name in more}, "spec")
    if values["order"] == properties["order"]["default"]:
        del values["order"]  # then it is the scenario's own
    name = _name(learner, data, values.get("split", values["scenario"]["name"]), values["seed"])
    return _request(known, name, values, params, wrong)


def _method(known: Mapping[str, Any]) -> str:
    """Which method, and where to start from."""
    left, right = st.columns(2, gap="medium")
    learners = list(known["learners"])
    with left:
        learner = st.selectbox(
            "Method", learners, index=learners.index("simplecil") if "simplecil" in learners else 0, key="spec-learner",
            **state.bound(),
        )  # fmt: skip
        method = known["learners"][learner]
        needs = [words for need, words in _NEEDS.items() if need in method["needs"]]
        stores = "stores training images" if method.get("exemplars") else ""
        family = str(method.get("family", "")).capitalize()
        wants = f"needs {' and '.join(needs)}" if needs else ""
        _what_it_is(family, method["summary"], method.get("when", ""), method["paper"], wants, stores)
    with right:
        offered = {start["name"]: start for start in method.get("starts", ())}
        key = f"start-{learner}"
        chosen = st.selectbox(
            "Start from", list(offered), index=None, key=key, placeholder="Settings as they stand below",
            on_change=_begin, args=(known, learner, key), help="Fills in everything below; change what you like.",
        )  # fmt: skip
        _what_it_is(offered[chosen]["words"] if chosen else "A first look, its paper, or a row of our tables.")
    return learner


@st.cache_data(ttl=30, show_spinner=False)  # a set that was just fetched appears half a minute later
def _absent() -> frozenset[str]:
    """Named data sets that lie nowhere on this machine and do not download themselves."""
    return frozenset(name for name, one in named_sets().items() if not one.small and not find(one, homes(one)))


def _trainable(name: str) -> bool:
    """A data set by name, on which a learner may be trained."""
    entry = named_sets().get(name)
    return ":" not in name and (entry is None or entry.may_train)


def _begin(known: Mapping[str, Any], learner: str, key: str) -> None:
    """Put a starting point into every control; what it does not name goes back to its default."""
    name = st.session_state[key]
    start = next((one for one in known["learners"][learner]["starts"] if one["name"] == name), None)
    if start is None:
        return
    given = dict(start["settings"])
    scenario = given.pop("scenario", {"name": "class-incremental"})
    about = known["scenarios"][scenario["name"]]["params"].get("properties", {})
    own = {n: schema for group in fields.unfolded(known["learners"][learner]["params"])
           for n, schema in group.properties.items()}  # fmt: skip
    run = {n: schema for n, schema in known["spec"]["properties"].items() if n not in (*_KEPT, "scenario")}
    st.session_state["spec-scenario"] = scenario["name"]
    for prefix, schemas, values in (
        ("spec", run, given), (f"scenario-{scenario['name']}", about, scenario), (f"h-{learner}", own, start["params"])
    ):  # fmt: skip
        for field, schema in schemas.items():
            st.session_state[f"{prefix}-{field}"] = fields.as_typed(schema, values.get(field, schema.get("default")))


def _what(known: Mapping[str, Any]) -> tuple[str, str]:
    """Data set and backbone, each with a line on what it is."""
    second, third = st.columns(2, gap="medium")
    with second:
        own = {f"folder:{path}": name for name, path in folders.registered().items()}
        absent = _absent()
        offered = sorted((name for name in known["data"] if _trainable(name)), key=lambda name: (name in absent, name))
        data = st.selectbox(
            "Data", [*offered, *own], index=offered.index("shields"), key="spec-data", accept_new_options=True,
            format_func=lambda value: f"{own[value]} (your folder)" if value in own
            else f"{value} (not on this machine)" if value in absent else value,
            help="Or type hf:NAME, or folder:DIR and parquet:DIR inside the data folder of this app.", **state.bound(),
        )  # fmt: skip
        form = f"{str(data).partition(':')[0]}:"
        line = known["data"].get(data) or next((t for n, t in known["data"].items() if n.startswith(form)), "")
        _what_it_is(str(line))
    with third:
        ready = [name for name in known["backbones"] if name.startswith("bundled:")]
        backbone = st.selectbox(
            "Backbone", ready, index=ready.index("bundled:vit"), key="spec-backbone", accept_new_options=True,
            help="Or type timm:MODEL.TAG or openclip:MODEL/TAG; their weights are downloaded once.", **state.bound(),
        )  # fmt: skip
        form = f"{str(backbone).partition(':')[0]}:"
        forms = known["backbones"]
        _what_it_is(forms.get(backbone) or next((t for n, t in forms.items() if n.startswith(form)), ""))
    return str(data or ""), str(backbone or "")


def _scenario(known: Mapping[str, Any]) -> dict[str, Any]:
    """How images are dealt out, with those of its parameters that differ from their defaults."""
    names = list(known)
    left, right = st.columns([1, 3], gap="medium")
    with left:
        name = st.selectbox("Scenario", names, index=names.index("class-incremental"), key="spec-scenario",
                            help="How images are dealt out as tasks.", **state.bound())  # fmt: skip
        _what_it_is(known[name]["summary"])
    properties = known[name]["params"].get("properties", {})
    with right:
        values = _grid(properties, f"scenario-{name}", _ACROSS - 1) if properties else {}
    changed = {n: v for n, v in values.items() if fields.differs(v, properties[n].get("default"))}
    return {"name": name, **changed}


def _what_it_is(*lines: str) -> None:
    html.show("".join(f"<p>{html.safe(line)}</p>" for line in lines if line), "ci-default")


def _hyper_parameters(learner: str, method: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Those that differ from their defaults, and the first complaint."""
    groups, values = fields.unfolded(method["params"]), {}
    properties = {name: schema for group in groups for name, schema in group.properties.items()}
    open_, folded = _those_that_matter(groups)
    with st.container(border=True, key="hyper"):
        st.subheader(f"Hyper-parameters of {html.markdown(learner)}", anchor=False)
        if not properties:
            html.note("This method has none.")
        values |= _grid({name: properties[name] for name in open_}, f"h-{learner}")
        for group in folded:
            title = f"**{group.name}**  {html.markdown(group.words)}" if group.name else "More of the method"
            with st.expander(title, icon=":material/fitness_center:" if group.name else ":material/tune:"):
                values |= _grid(group.properties, f"h-{learner}")
        with st.expander("What it does, in equations", icon=":material/function:"):
            formulas.show(method["text"])
    changed = {n: v for n, v in values.items() if fields.differs(v, properties[n].get("default"))}
    for name, value in changed.items():
        if why := fields.complaint(properties[name], value):
            return changed, f"Learner {learner!r}: {name} = {value!r}: {why}."
    return changed, ""


def _those_that_matter(groups: Sequence[fields.Group]) -> tuple[list[str], list[fields.Group]]:
    """The settings that stand open (epochs and rate of the descent, then its first own), and the rest."""
    own, *inner = groups
    learnt = [f"{group.name}.{name}" for group in inner[:1] for name in _OFTEN]
    often = [name for name in learnt if name in inner[0].properties] if inner else []
    open_ = [*often, *own.properties][:_MATTER]
    rest = [
        group._replace(properties={n: schema for n, schema in group.properties.items() if n not in open_})
        for group in groups
    ]
    return open_, [group for group in rest if group.properties]


def _grid(properties: Mapping[str, Any], key: str, across: int = _ACROSS) -> dict[str, Any]:
    """Controls, row by row, so that one with a longer text underneath moves no other column."""
    values, names = {}, list(properties)
    for start in range(0, len(names), across):
        for column, name in zip(st.columns(across, gap="medium"), names[start : start + across], strict=False):
            with column:
                values[name] = fields.field(name, properties[name], f"{key}-{name}")
    return values


def _name(learner: str, data: str, split: str, seed: int) -> str:
    """A free folder name made of what the run is, or what the visitor typed."""
    plain = "".join(
        c if c.isalnum() or c in "-_" else "-" for c in f"{learner}-{data.rpartition('/')[2]}-{split}-s{seed}"
    )
    root, number, free = runs_folder(), 1, plain.strip("-").lower()[:60]
    taken = {one.name for one in queue.waiting(root)}
    base = free
    while (root / free).exists() or free in taken:
        number += 1
        free = f"{base}-{number}"
    given = st.text_input(
        "Name of the run", "", placeholder=free, max_chars=80, key="run-name", help="Its folder below the runs folder."
    )
    return given.strip() or free


def _request(
    known: Mapping[str, Any], name: str, values: dict[str, Any], params: dict[str, Any], wrong: str
) -> Request:
    """Everything that can be refused without loading anything."""
    try:
        queue.valid_name(name)
        safety.must_be_declared(values["data"])
        must_allow_training(values["data"])
        must_be_here(values["data"])
        given = {key: value for key, value in values.items() if value is not None}
        spec = RunSpec.of({**given, "params": params, "out": str(runs_folder() / name)})
    except CillabError as error:
        return Request(name, None, one_line(error))
    refusal = known["refusals"].get(spec.learner, {}).get(spec.backbone.name, "")
    if wrong or refusal:
        return Request(name, None, wrong or refusal)
    return Request(name, spec)
