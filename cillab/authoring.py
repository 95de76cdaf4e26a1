"""`cillab new learner NAME`: a package with a working learner of 25 lines, its entry point and its test."""

import re
from collections.abc import Collection
from pathlib import Path
from string import Template

from cillab.core.errors import InvalidRequestError, unknown_name
from cillab.lab import offer

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40

_PROJECT = Template("""\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "cillab-$name"
version = "0.1"
description = "$cls, a learner for cillab"
requires-python = ">=3.11"
dependencies = ["cillab"]

[project.entry-points."cillab.learners"]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]
""")

_LEARNER = Template('''\
"""$cls: one sentence that says what is new."""

from cillab.kit import (
    F, HyperParams, Iterator, Method, PositiveFloat, Progress, Prototypes, Task, final, gathered, method,
)  # fmt: skip


class ${cls}Params(HyperParams):
    """Hyper-parameters of $cls."""

    power: PositiveFloat = 0.5
    """Exponent on the size of every feature; 1 leaves features as they are."""


@method(
    "$name",
    paper="none yet",
    evidence="an exercise",
    family="closed form",
    when="One sentence: when would one choose it?",
)
@final
class $cls(Method[${cls}Params]):
    """Nearest class mean of features whose large entries are tamed.

        z = sign(h) |h|^power,    logit_c = cos(z, mean of z over the images of class c)                    (1)

    Keeps D numbers and a count per class; one pass per image.
    """

    def setup(self) -> None:
        """Make the parts: every part that is an attribute is saved, loaded and undone by the base."""
        self.classifier = Prototypes(self.backbone.feature_dim, self.backbone.device)

    def shape(self, h):
        """z of (1): what the classifier reads, from the feature that the backbone gave."""
        return F.normalize(h.sign() * h.abs() ** self.params.power, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1): h and labels of all images of the task, each image forwarded once."""
        h, labels = yield from gathered(self, task)
        self.classifier.add(self.shape(h), labels)
''')

_TEST = Template('''\
"""$cls against its equation, and the battery that every learner passes."""

import torch
from cillab.testing import check_learner, make_bench


def test_battery() -> None:
    check_learner("$name")


def test_means_are_those_of_equation_1() -> None:
    bench = make_bench("$name")
    learner = bench.taught(1)
    images, labels = next(iter(bench.tasks[0].batches(1000)))
    with torch.no_grad():
        z = learner.features(images).double()
    for row, c in zip(learner.head().weight.double(), learner.seen, strict=True):
        torch.testing.assert_close(row, z[labels == c].mean(dim=0), rtol=1e-5, atol=1e-6)
''')


def new_learner(name: str, out: Path | None = None) -> Path:
    """Write the package of a learner called `name` into the folder `out`, or one of its name here; returns the folder.

    Raises:
        InvalidRequestError: the name is no name, is taken, or the folder exists.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InvalidRequestError(
            f"{name[:60]!r} is no name for a learner: small letters, digits and hyphens, at most {_LONGEST}, "
            "such as nearest-mean."
        )
    if name in _learners():
        raise InvalidRequestError(f"There is a learner {name!r} already (`cillab list learners`): choose another name.")
    folder = out or Path(name)
    if folder.exists():
        raise InvalidRequestError(f"{folder} exists already: give another folder with --out.")
    module, cls = name.replace("-", "_"), "".join(word.capitalize() for word in name.split("-"))
    files = {"pyproject.toml": _PROJECT, f"{module}.py": _LEARNER, f"test_{module}.py": _TEST}
    folder.mkdir(parents=True)
    for file, template in files.items():
        (folder / file).write_text(template.substitute(name=name, module=module, cls=cls), encoding="utf-8")
    return folder


def _learners() -> Collection[str]:
    """Names that are taken, from the kept catalogue: without one, learners and torch with them are loaded."""
    if (known := offer.kept()) is not None:
        return known["learners"]
    from cillab.learners import learners  # noqa: PLC0415

    return list(learners)


KINDS = {"learner": new_learner}


def new(kind: str, name: str, out: Path | None = None) -> Path:
    """Start something of one's own: today, a learner.

    Raises:
        UnknownNameError: no such kind. InvalidRequestError: see `new_learner`.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    return KINDS[kind](name, out)
