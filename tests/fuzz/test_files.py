"""Mutated real files: runs, specs. Nothing but a CillabError of one line comes out, and what is accepted is the truth.

`CILLAB_FUZZ` is the number of cases of each test (default 300; `make fuzz`: 10,000). Same seed, same cases; a failure
names its case, and hypothesis shrinks it. `make fuzz` prints how many cases were refused and how many accepted.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings, strategies as st
from jaxtyping import TypeCheckError

from cillab.core.errors import CillabError
from cillab.lab.early import refuse_early
from cillab.lab.spec import RunSpec, parse_setting
from cillab.runs.index import describe
from cillab.runs.sums import sealed_record
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run
from tests.runs.test_damage import FILES, looked_at

CASES = int(os.environ.get("CILLAB_FUZZ", "300"))
fuzz = settings(
    max_examples=CASES, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(max_size=30),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_synthetic_run(tmp_path_factory.mktemp("fuzz") / "whole", tasks=2, classes_per_task=2, probe=8, dim=4)


@pytest.fixture(scope="module")
def victim(whole: Path) -> Path:
    shutil.copytree(whole, whole.parent / "victim")
    return whole.parent / "victim"


@contextmanager
def one_line() -> Iterator[None]:
    """Counts the case as accepted, or as refused by a named error of one line.

    Types are checked while tests run: that of a snapshot by reading one of its arrays, which may be damaged.
    """
    try:
        yield
    except (CillabError, TypeCheckError) as error:
        if not isinstance(error, CillabError) and not isinstance(error.__cause__, CillabError):
            raise
        text = str(error if isinstance(error, CillabError) else error.__cause__)
        assert "\n" not in text and len(text) < 1000 and "\x1b" not in text
        event("refused")
    else:
        event("accepted")


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """The file is whole again afterwards, also where the case fails: the next case wants it so."""
    content = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(content)


def refused(path: Path) -> dict[str, Any] | None:
    row = describe(path)
    assert row["state"] in ("finished", "damaged", "interrupted", "cancelled", "failed", "queued", "running", "paused")
    with one_line():
        return looked_at(path)
    return None


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        if not changed:
            break
        at = draw(st.integers(0, len(changed) - 1))
        far = min(len(changed), at + draw(st.integers(1, 64)))
        match draw(st.sampled_from(("flip", "cut", "double", "put", "end"))):
            case "flip":
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del changed[at:far]
            case "double":
                changed[at:at] = changed[at:far]
            case "put":
                changed[at:at] = draw(st.binary(min_size=1, max_size=16))
            case _:
                del changed[at:]
    return bytes(changed)


@fuzz
@given(data=st.data())
def test_bytes_of_a_run(data: st.DataObject, victim: Path, whole: Path) -> None:
    name = data.draw(st.sampled_from(FILES))
    content = (whole / name).read_bytes()
    changed = data.draw(mutated(content))
    with kept(victim / name):
        (victim / name).write_bytes(changed)
        said = refused(victim)
    same_sums = changed.count(b"crc") == content.count(b"crc") and name != "metrics.jsonl"
    if said is not None and same_sums and b"crc32" in changed:
        assert said["result"] == looked_at(whole)["result"]


@fuzz
@given(data=st.data())
def test_values_of_a_run(data: st.DataObject, victim: Path, whole: Path) -> None:
    """Any JSON in the place of any value at any depth, with a right checksum: what a forger would write."""
    name = data.draw(st.sampled_from([name for name in FILES if name.endswith(".json")]))
    values = json.loads(unsealed((whole / name).read_text()))
    place: Any = values
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(VALUES)
    with kept(victim / name):
        (victim / name).write_text(json.dumps(sealed_record(values)))
        refused(victim)


FIELDS = sorted(RunSpec.settings())


@fuzz
@given(values=st.dictionaries(st.sampled_from([*FIELDS, "parms", "shots"]), VALUES, max_size=4))
def test_requests(values: dict[str, Any]) -> None:
    with one_line():
        spec = RunSpec.of(values)
        assert RunSpec.of(spec.flat()).digest() == spec.digest()
        refuse_early(spec)


@fuzz
@given(text=st.text(max_size=60))
def test_settings_on_the_command_line(text: str) -> None:
    with one_line():
        key, _ = parse_setting(text)
        assert key and key == key.strip()


@fuzz
@given(data=st.data())
def test_bytes_of_a_spec(data: st.DataObject, victim: Path) -> None:
    text = RunSpec.of({"data": "digits", "learner": "min", "params": {"epochs": 3}}).to_yaml().encode()
    path = victim.parent / "spec.yaml"
    path.write_bytes(data.draw(mutated(text)))
    with one_line():
        RunSpec.read(path)
