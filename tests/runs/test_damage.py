"""Damaged run folders: accidents are found by checksums, foreign nonsense by what does not fit; one line, never more.

Oracles: the untouched run (whatever is accepted says the same), and the rule that nothing but a CillabError comes out.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cillab.core.errors import CillabError, RunError
from cillab.runs import Run
from cillab.runs.arrays import Arrays
from cillab.runs.checks import check
from cillab.runs.files import write_arrays
from cillab.runs.sums import sealed_arrays
from cillab.runs.table import table
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

FILES = (
    "run.json", "status.json", "result.json", "metrics.jsonl", "probe/probe.json", "probe/sprites.webp",
    "steps/t00.safetensors", "steps/t01.safetensors",
)  # fmt: skip
NONSENSE: tuple[Any, ...] = (
    None, -1, 0, 2**31, 2**64, 10**400, 1e308, "", "x" * 5000, "\x1b[31mred", [], [[[]]], {}, True, [1, "a", None],
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_synthetic_run(tmp_path_factory.mktemp("damage") / "whole", tasks=2, classes_per_task=2, probe=8, dim=4)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs" / "victim")
    shutil.copytree(whole, tmp_path / "runs" / "sound")
    return tmp_path / "runs" / "victim"


def looked_at(path: Path) -> dict[str, Any]:
    """All that can be read of a run; what a reader cannot use raises a RunError."""
    run = Run(path)
    check(run)
    said: dict[str, Any] = {"info": run.info, "status": run.status, "result": run.result}
    said["alive"] = run.liveness(now=0.0)
    said["rows"] = [repr(row) for row in run.metrics().rows]
    said["probe"] = (run.probe.ids, run.probe.labels.tolist(), run.probe.atlas.tobytes() if run.probe.sprites else None)
    said["matrix"] = run.accuracy_matrix().tobytes()
    for step in run.steps:
        shot = run.snapshot(step)
        said[step] = {name: array.tobytes() for name, array in shot.items()}, shot.notes()
    return said


def must_be_one_line(path: Path) -> dict[str, Any] | None:
    """What the run says, or None when it is refused, in one line that names one of its files."""
    try:
        return looked_at(path)
    except CillabError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 1000, text
        assert str(path) in text, text
        return None


def test_every_flipped_bit_is_noticed(run: Path, whole: Path) -> None:
    expected, dice = looked_at(whole), np.random.default_rng(0)
    for name in FILES:
        content = (run / name).read_bytes()
        for at in sorted({0, 7, 8, 9, len(content) - 2, *dice.integers(len(content), size=25).tolist()}):
            changed = bytearray(content)
            changed[at] ^= 1 << int(dice.integers(8))
            (run / name).write_bytes(changed)
            said = must_be_one_line(run)
            unsealed_by_chance = b'"crc' in content and (changed.count(b'"crc"'), changed.count(b'"crc32')) != (
                content.count(b'"crc"'), content.count(b'"crc32')
            )  # fmt: skip
            assert said is None or said == expected or unsealed_by_chance, (name, at)
        (run / name).write_bytes(content)
    assert looked_at(run) == expected


def test_lengths(run: Path, whole: Path) -> None:
    expected, dice = looked_at(whole), np.random.default_rng(1)
    for name in FILES:
        content = (run / name).read_bytes()
        middle = int(dice.integers(len(content)))
        for changed in (
            content[:middle],
            content[:middle] + b"\0" * 9 + content[middle:],
            content + b"x",
            b"",
            content * 2,
        ):
            (run / name).write_bytes(changed)
            said = must_be_one_line(run)
            if name == "metrics.jsonl":
                continue  # a torn last line is no damage, and twice the same rows are rows
            assert said is None or said == expected, name
        (run / name).write_bytes(content)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("json")])
def test_values_of_another_kind(run: Path, name: str) -> None:
    """Written by a program that knows no checksum: whatever is accepted must be usable."""
    text = unsealed((run / name).read_text())
    values = json.loads(text)
    for key in values:
        for value in NONSENSE:
            (run / name).write_text(json.dumps(values | {key: value}))
            must_be_one_line(run)
            if value in (2**64, 10**400, NONSENSE[9]):
                found = table(run.parent)
                assert {row["run"]: row["state"] for row in found.rows}["sound"] == "finished" and len(found.rows) == 2
                assert "\x1b" not in found.text()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_where_a_file_should_be(run: Path, name: str) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    if name == "run.json":
        with pytest.raises(RunError):
            Run(run)
        return
    assert must_be_one_line(run) is None
    rows = {row["run"]: row for row in table(run.parent).rows}
    assert rows["sound"]["state"] == "finished"


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, '{"tasks": [[1' + "0" * 5000 + "]]}", '{"tasks": NaN}', '{"x": "\\ud800"}', "7"],
)
def test_json_that_no_writer_writes(run: Path, text: str) -> None:
    for name in ("run.json", "status.json", "result.json", "probe/probe.json"):
        before = (run / name).read_bytes()
        (run / name).write_text(text)
        assert must_be_one_line(run) is None
        assert {row["run"]: row["state"] for row in table(run.parent).rows}["sound"] == "finished"
        (run / name).write_bytes(before)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(text + "\n")
    assert must_be_one_line(run) is None


def shots(path: Path) -> dict[str, np.ndarray]:
    arrays = Arrays(path)
    return {name: arrays[name] for name in arrays.names}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("features", lambda a: a[:-1]),
        ("features", lambda a: a.astype(np.int32)),
        ("features", lambda a: a[0]),
        ("predictions", lambda a: a + 1000),
        ("predictions", lambda a: a.astype(np.float32)),
        ("seen", lambda a: a[:1]),
        ("seen", lambda a: np.full_like(a, a[0])),
        ("confusion", lambda a: -a - 1),
        ("confusion", lambda a: a[:, :1]),
        ("accuracy/row", lambda a: a[:0]),
        ("means/now", lambda a: a[:, :2]),
        ("task_of_class", lambda a: a + 7),
    ],
)
def test_arrays_that_do_not_fit(run: Path, name: str, change) -> None:
    path = run / "steps" / "t01.safetensors"
    arrays = shots(path)
    write_arrays(path, arrays | {name: change(arrays[name])})
    with pytest.raises(RunError, match=r"t01\.safetensors is damaged"):
        looked_at(run)


def test_an_atlas_that_says_a_billion_pixels_is_not_decoded(run: Path) -> None:
    values = json.loads(unsealed((run / "probe" / "probe.json").read_text()))
    for tile, columns in ((10**9, 32), (32, 10**6), (0, 32), (-1, 32), (1024, 1024)):
        values["sprites"] |= {"tile": tile, "columns": columns}
        (run / "probe" / "probe.json").write_text(json.dumps(values))
        assert must_be_one_line(run) is None


def test_a_file_overwritten_in_place_while_it_is_open(run: Path, whole: Path) -> None:
    shot = Run(run).snapshot("t01")
    shorter = (run / "steps" / "t00.safetensors").read_bytes()[:2000]
    held = shot["features"]
    (run / "steps" / "t01.safetensors").write_bytes(shorter)  # the same inode
    with pytest.raises(RunError, match="is damaged"):
        _ = shot["logits"]
    assert np.isfinite(held).all()  # what was read stays


def test_sums_can_be_checked_in_any_language(run: Path) -> None:
    """What docs/run_folder.md says, done by hand."""
    import zlib

    content = (run / "steps" / "t00.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    sums = json.loads(header.pop("__metadata__")["crc32"])
    data = content[8 + length :]
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert zlib.crc32(data[begin:end]) == sums[name]
    assert sealed_arrays(content) == content and (8 + length) % 8 == 0
    record = json.loads((run / "run.json").read_text())
    told = record.pop("crc32")
    assert zlib.crc32(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()) == told
    line = (run / "metrics.jsonl").read_bytes().splitlines()[0]
    body, _, rest = line.rpartition(b', "crc": ')
    assert zlib.crc32(body) == int(rest[:-1])
