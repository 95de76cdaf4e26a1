"""From a request to the things it names: refused early, loaded late, and recorded with their digests."""

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cillab
from cillab.core import processes
from cillab.core.contract import Backbone, Learner
from cillab.core.errors import IncompatibleError, InvalidRequestError, shown
from cillab.core.params import build
from cillab.core.places import feature_dir
from cillab.lab.spec import RunSpec
from cillab.protocol.facts import Made
from cillab.protocol.row import stated
from cillab.protocol.scenario import Scenario
from cillab.protocol.specs import BackboneSpec, order_text
from cillab.runs import Abilities, RunInfo
from cillab.streams.stream import Stream, stream_of

_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "safetensors", "pydantic")


@dataclass(frozen=True)
class Ready:
    """What a spec names, made."""

    spec: RunSpec  # with every hyper-parameter spelt out
    stream: Stream
    backbone: Backbone
    learner: Learner[Any]


def prepare(spec: RunSpec) -> Ready:
    """Make the stream, the backbone and the learner of `spec`. Cheap refusals first, weights last.

    Raises:
        CillabError: an unknown name, a bad value, a combination that cannot work, data or weights out of reach.
    """
    from cillab.backbones import describe, make_backbone  # noqa: PLC0415 - heavy, and not needed to read a spec
    from cillab.learners import check_fit, learners  # noqa: PLC0415

    method = learners[spec.learner]
    build(method.Params, spec.params, f"Learner {spec.learner!r}")
    asked = spec.backbone
    card = describe(asked.name)
    check_fit(spec.learner, kind=card.kind, clip=card.clip, tag=card.tag)
    check_scenario(spec.stream.scenario, method)
    if asked.weights is not None and not Path(asked.weights).is_file():
        raise InvalidRequestError(f"weights = {shown(asked.weights, 200)}: there is no such file.")
    stream = stream_of(spec.stream)
    check_names(method.capabilities.needs, spec.learner, stream)
    check_room(asked.name, method, len(stream.order))
    backbone = make_backbone(
        asked.name,
        weights=asked.weights,
        image_size=asked.image_size,
        transform=asked.transform,
        precision=asked.precision,
        device=asked.device,
        compile=asked.compile,
        cache=feature_dir() if processes.count() == 1 else None,  # several must forward the same images at once
    )
    learner = make_learner_of(spec, backbone)
    check_lengths(learner, stream)
    return Ready(resolved(spec, learner), stream, backbone, learner)


def make_learner_of(spec: RunSpec, backbone: Backbone) -> Learner[Any]:
    """The learner that a spec names, on a backbone that is there already."""
    from cillab.learners import make_learner  # noqa: PLC0415

    return make_learner(spec.learner, backbone, seed=spec.stream.seed, **spec.params)


def resolved(spec: RunSpec, learner: Learner[Any]) -> RunSpec:
    """`spec` with every hyper-parameter spelt out: it means the same after a default has changed."""
    return spec.with_(params=learner.params.model_dump(mode="json"))


def check_scenario(scenario: Scenario, method: type[Learner[Any]]) -> None:
    """Refuse a learner that cannot take classes by name alone where the scenario brings such classes.

    Raises:
        IncompatibleError: with the learners that can.
    """
    from cillab.core.registry import learners  # noqa: PLC0415 - as filled by whoever made `method`

    if not scenario.names_only or method.capabilities.learns_names:
        return
    able = ", ".join(name for name in learners if learners[name].capabilities.learns_names) or "(none)"
    raise IncompatibleError(
        f"Learner {method.name!r} needs images of every class; in {scenario.name} the new classes come by name alone. "
        f"Learners that can: {able}."
    )


def check_room(backbone: str, method: type[Learner[Any]], classes: int) -> None:
    """Refuse a learner that gives every class a vertex of a simplex where there are too few dimensions for it.

    Raises:
        IncompatibleError: with the numbers, and what would work.
    """
    from cillab.backbones import feature_dim_of  # noqa: PLC0415

    if method.capabilities.simplex and classes > (dim := feature_dim_of(backbone)) + 1:
        raise IncompatibleError(
            f"Learner {method.name!r} gives every class a vertex of a simplex: {backbone} has {dim} features, room for "
            f"{dim + 1} classes, and these data have {classes}. Take a wider backbone, or fewer classes with --order."
        )


def check_names(needs: frozenset[str], learner: str, stream: Stream) -> None:
    """Refuse a learner that reads class names on data whose classes have none.

    Raises:
        IncompatibleError: with the first such name.
    """
    if "class-names" not in needs:
        return
    for name in stream.class_names:
        if not any(letter.isalpha() for letter in str(name)):
            raise IncompatibleError(f"Learner {learner!r} reads class names, but this data set calls a class {name!r}.")


def check_lengths(learner: Learner[Any], stream: Stream) -> None:
    """Refuse class names that are too long for the text side of the backbone, with the sentence around them.

    Raises:
        InvalidRequestError: with the first such sentence.
    """
    from cillab.parts.text_head import TextHead  # noqa: PLC0415 - heavy

    for part in learner.parts().values():
        if isinstance(part, TextHead):
            part.check_names([str(stream.class_names[c]) for c in stream.order])


def backbone_of(learner: Learner[Any]) -> Backbone:
    """The backbone that a learner dresses.

    Raises:
        IncompatibleError: the learner does not keep it as `backbone`.
    """
    backbone = getattr(learner, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise IncompatibleError(f"{type(learner).__name__} keeps no attribute `backbone`: the lab cannot place images.")
    return backbone


def spec_of(stream: Stream, learner: Learner[Any]) -> RunSpec:
    """The request that would make these objects, for runs that were put together in Python."""
    backbone, asked = backbone_of(learner), stream.spec
    pre = backbone.preprocessing
    if asked.order not in ("pilot", "natural"):  # of a slice only its own classes
        asked = asked.model_copy(update={"order": order_text(stream.order, stream.order)})
    worn = BackboneSpec(
        name=backbone.tag,
        image_size=pre.size,
        transform=pre.preset,
        precision=backbone.precision,
        device=str(backbone.device),
    )
    params = learner.params.model_dump(mode="json")
    return RunSpec(stream=asked, backbone=worn, learner=learner.name, params=params)


def info_of(spec: RunSpec, stream: Stream, learner: Learner[Any]) -> RunInfo:
    """run.json: what is run, on what, by which code."""
    backbone, can = backbone_of(learner), learner.capabilities
    protocol = stated(Made(spec, stream, learner, backbone))
    return RunInfo(
        cillab_version=cillab.__version__,
        spec=spec.flat(),
        tasks=[list(classes) for classes in stream.classes],
        returning=[list(plan.back) for plan in stream.plans] if any(plan.back for plan in stream.plans) else [],
        class_names={c: str(stream.class_names[c]) for c in stream.order},
        train_images=stream.train_images,
        capabilities=Abilities(
            summary=can.summary,
            paper=can.paper,
            evidence=can.evidence,
            needs=sorted(can.needs),
            shows=sorted(can.shows),
            internals={one.name: str(one) for one in can.internals},
        ),
        protocol=protocol,
        versions=versions(),
        device=device_name(backbone),
        precision=backbone.precision,
        notes=list(stream.source.notes),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers end up in a result; the commit, in a checkout."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _commit()
    return {**found, "commit": commit} if commit else found


def device_name(backbone: Backbone) -> str:
    """`cuda:0 (NVIDIA H100)`, `cpu (x86_64)`."""
    import torch  # noqa: PLC0415

    device = backbone.device
    known = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    several = f" x {processes.count()} processes" if processes.count() > 1 else ""
    return f"{device} ({known}){several}"


def _commit() -> str | None:
    root = Path(cillab.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
