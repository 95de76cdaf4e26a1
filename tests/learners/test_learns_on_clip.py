"""Learners that read class names learn on a CLIP that knows them: the bundled one, 20 classes in two tasks."""

import pytest

import cillab
from cillab.learners import checks
from cillab.learners.checks import Bench

pytestmark = pytest.mark.slow
BETTER_THAN_NAMES = ("coop", "dmc", "dmc-ot", "cpt")


@pytest.fixture(scope="module")
def parts():
    backbone = cillab.backbone("bundled:clip")
    stream = cillab.stream("shields", split="B0-Inc10", train_per_class=30, test_per_class=20)[:2].on(backbone)
    tests = [stream.test(index) for index in range(2)]
    return backbone, [stream[index] for index in range(2)], [(test.images, test.labels) for test in tests]


def bench(name: str, parts) -> Bench:
    backbone, tasks, test = parts
    return Bench(name, backbone, tasks, test)


@pytest.mark.parametrize("name", ["zeroshot-clip", *BETTER_THAN_NAMES])
def test_learns(name: str, parts) -> None:
    checks.learns(bench(name, parts))


@pytest.mark.parametrize("name", BETTER_THAN_NAMES)
def test_training_adds_to_what_the_names_say(name: str, parts) -> None:
    names_alone = checks.accuracy(bench("zeroshot-clip", parts).taught(), bench("zeroshot-clip", parts))
    found = checks.accuracy(bench(name, parts).taught(), bench(name, parts))
    assert found > names_alone, f"{found:.3f} against {names_alone:.3f} of the names alone"
