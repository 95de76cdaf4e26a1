"""Refusals before torch is loaded. Oracle: the library's own records, which must refuse the same values."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cillab import cli
from cillab.core import devices, memory
from cillab.core.errors import CillabError, InvalidRequestError
from cillab.core.params import build, flat
from cillab.lab import early, offer
from cillab.lab.spec import RunSpec, parse_setting, read_yaml
from cillab.learners import learners

ROOT = Path(cli.__file__).parents[1]
VALUES: tuple[Any, ...] = (0, -1, 1, 2.5, 1e30, True, None, "", "adamw", "released", [1], [], {"a": 1}, "x" * 5000)


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads(json.dumps(offer.offered()))


def refusal(record: type, params: dict[str, Any], name: str) -> str | None:
    try:
        build(record, params, f"Learner {name!r}")
    except CillabError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", list(learners))
def test_a_record_from_the_catalogue_refuses_what_the_method_refuses(name: str, known) -> None:
    ours, real = early.record_of(known["learners"][name]), learners[name].Params
    assert refusal(ours, {}, name) is None
    assert refusal(ours, flat(real()), name) is None
    missed = refused = 0
    for parameter in flat(real()):
        for value in (one for one in VALUES if one is not None):
            wanted, found = (refusal(kind, {parameter: value}, name) for kind in (real, ours))
            if found is not None:
                assert wanted is not None, (parameter, value, found)
            refused += wanted is not None
            missed += wanted is not None and found is None
    assert missed <= refused / 4  # rules that a schema cannot say are left to the method


def test_former_spellings_are_understood(known) -> None:
    for name in learners:
        record = early.record_of(known["learners"][name])
        for former, now in learners[name].Params.former.items():
            assert refusal(record, {former: None}, name) is None or now, former


WRONG = [
    (["--learner", "simplecl"], "Did you mean 'simplecil'?"),
    (["--backbone", "bundled:vitt"], "Did you mean 'bundled:vit'?"),
    (["--backbone", "tim:vit_base"], "Did you mean 'timm:vit_base'?"),
    (["--learner", "acil", "--set", "expansion=-1"], "greater than or equal to 0"),
    (["--learner", "acil", "--set", "expansio=1"], "Did you mean 'expansion'?"),
    (["--learner", "min", "--set", "variant=[1]"], "variant"),
    (["--learner", "min", "--set", "epochs=" + "[" * 10_000], "epochs"),
    (["--learner", "min", "--set", "epochs=" + "9" * 5_000], "epochs"),
    (["--learner", "dmc"], "has no text side"),
    (["--device", "meta"], "Valid: auto, cpu, cuda, cuda:0, mps"),
    (["--device", "xla"], "Valid: auto, cpu, cuda, cuda:0, mps"),
    (["--device", "cuda:99"], "cuda:99"),
    (["--split", "B0-Inc0"], "B0-Inc10"),
    (["--seed", str(2**64)], "less than or equal to 4294967295"),
    (["--seed", "-1"], "greater than or equal to 0"),
    (["--image-size", "100000"], "of memory"),
    (["--weights", "nowhere.safetensors"], "no such file"),
    (["--weights", "/" + "w" * 900], "name too long"),
    (["w" * 900 + ".yaml"], "name too long"),
    (["--data", "folder:a\x1b[2J"], "no name or path has"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG, ids=[" ".join(words)[:40] for words, _ in WRONG])
def test_one_line_without_torch(words: list[str], hint: str, known, tmp_path, monkeypatch, capsys) -> None:
    def loaded(*_):
        raise AssertionError("this needed the engine")

    monkeypatch.setattr("cillab.lab.engine.Lab.from_spec", loaded)
    monkeypatch.setattr(sys, "argv", ["cillab", "run", *words, "--out", str(tmp_path / "r")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1 and hint in err and len(err) <= 400, err
    assert not list(tmp_path.iterdir())


def test_really_without_torch(known, tmp_path) -> None:
    code = "import sys, cillab.cli\ntry: cillab.cli.main()\nfinally: assert 'torch' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["list", "learners"], ["list", "data"], ["list", "schema"], ["run", "--learner", "simplecl"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, env=env, capture_output=True, check=False
        )
        assert b"AssertionError" not in done.stderr, words


def test_the_kept_catalogue_is_made_anew_when_a_source_changes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path))
    assert offer.kept() is None
    assert offer.keep() == offer.offered() == offer.kept()
    monkeypatch.setattr(offer, "fingerprint", lambda: "another")
    assert offer.kept() is None
    offer.keep()
    assert [path.name for path in (tmp_path / "catalogue").iterdir()] == ["another.json"]
    (tmp_path / "catalogue" / "another.json").write_text("{")
    assert offer.kept() is None


@pytest.mark.parametrize(("count", "name", "fits"), [
    (0, "cuda", False), (1, "cuda", True), (1, "cuda:0", True), (1, "cuda:1", False), (2, "cuda:1", True),
    (None, "cuda:7", True), (0, "cpu", True), (0, "auto", True), (1, "cuda:-1", False), (1, "CUDA", False),
])  # fmt: skip
def test_devices(count: int | None, name: str, fits: bool, monkeypatch) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: count)
    if fits:
        devices.check_device(name)
    else:
        with pytest.raises(InvalidRequestError, match="device = "):
            devices.check_device(name)


def test_memory_is_asked_before_it_is_taken() -> None:
    memory.must_fit(10, "ten bytes")
    with pytest.raises(InvalidRequestError, match=r"A ridge would take 1,000 GB of memory, and there are 2\.0 GB"):
        memory.must_fit(10**12, "A ridge", 2 * 10**9)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]\n", "something that holds it"),
        ("a: " + "[" * 10_000, "nested too deeply"),
        ("a: \0\n", "as YAML"),
        ("a: " + "9" * 5_000, "as YAML"),
        ("rows:\n  lda: {learner: lda}\n  min: {lr: 1}\n  lda: {learner: acil}\n", "'lda' given twice in line 2"),
    ],
    ids=["bomb", "circle", "depth", "null byte", "digits", "twice"],
)
def test_yaml_that_grows(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(InvalidRequestError, match=why) as caught:
        read_yaml(tmp_path / "spec.yaml")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_yaml_aliases_as_people_use_them(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "base: &b {epochs: 3}\n"
        "rows: {one: {params: *b}, two: &t {params: {<<: *b, lr: 1, epochs: 4}}, three: {<<: *t}}\n"
    )
    assert read_yaml(tmp_path / "s.yaml")["rows"]["three"]["params"] == {"epochs": 4, "lr": 1}


def test_settings_and_folders() -> None:
    assert parse_setting("a=" + "[" * 20_000)[1] == "[" * 20_000
    assert RunSpec.of({"out": "~/runs/x"}).folder() == Path.home() / "runs" / "x"
