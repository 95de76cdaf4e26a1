"""RunSpec: what goes in comes out again, by YAML and by command line; every mistake is one line."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from cillab.core.errors import CillabError, InvalidRequestError
from cillab.lab.early import refuse_early
from cillab.lab.spec import RunSpec, parse_setting
from cillab.lab.sweep import read_plan

SPEC = RunSpec(
    data="parquet:some dir", learner="min",
    params={"epochs": 3, "mix": "sum", "x": 0.5, "flag": True, "list": [1, 2], "t": "7"},
    image_size=160, cams=True, order="3,1,2", out="runs/a b",
)  # fmt: skip


def test_yaml_round_trip(tmp_path: Path) -> None:
    SPEC.write(tmp_path / "s.yaml")
    assert RunSpec.read(tmp_path / "s.yaml") == SPEC


def test_command_round_trip() -> None:
    words = shlex.split(SPEC.command())
    assert words[:2] == ["cillab", "run"]
    given, settings, rest = {}, {}, words[2:]
    while rest:
        option = rest.pop(0).removeprefix("--").replace("-", "_")
        if option == "cams":
            given["cams"] = True
        elif option == "set":
            key, value = parse_setting(rest.pop(0))
            settings[key] = value
        else:
            given[option] = rest.pop(0)
    assert RunSpec.of({**given, "params": settings}) == SPEC


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers() | st.booleans() | st.text(max_size=8)))
def test_any_setting_survives_the_command_line(params: dict) -> None:
    words = [w for w in RunSpec(params=params).arguments() if "=" in w]
    assert dict(parse_setting(w) for w in words) == params


def test_digest_follows_what_decides_numbers() -> None:
    assert SPEC.digest() == SPEC.with_(out="elsewhere", cams=False, keep_checkpoints="last").digest()
    for change in ({"seed": 2}, {"params": {}}, {"split": "B0-Inc5"}, {"probe_points": 10}):
        assert SPEC.digest() != SPEC.with_(**change).digest(), change


def test_order_may_be_a_list() -> None:
    assert RunSpec.of({"order": [3, 1, 2]}).stream.order == "3,1,2"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lerner": "min"}, "Did you mean 'learner'"),
        ({"transform": "tags"}, "transform = 'tags': Input should be 'tag', 'whole' or 'pilot_compat'"),
        ({"train_per_class": 0}, "train_per_class = 0: Input should be greater than 0"),
        ({"probe_points": 2001}, "probe_points = 2001"),
        ({"seed": "x"}, "seed = 'x'"),
    ],
)
def test_mistakes_are_one_line(values: dict, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RunSpec.of(values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [1", "as YAML"), ("- 1", "got list"), ("", "got NoneType")])
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        RunSpec.read(tmp_path / "s.yaml")
    with pytest.raises(InvalidRequestError, match="No spec file"):
        RunSpec.read(tmp_path / "none.yaml")


def test_settings() -> None:
    assert parse_setting("a=1") == ("a", 1)
    assert parse_setting("a=1e-3") == ("a", 0.001)
    assert parse_setting("a=b=c") == ("a", "b=c")
    assert parse_setting("a=False") == ("a", False)
    assert parse_setting("a=") == ("a", "")
    with pytest.raises(InvalidRequestError, match="key=value"):
        parse_setting("epochs")


def test_grid(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(
        f"data: digits\nout: {tmp_path}\ngrid: {{learner: [simplecil, min], params.epochs: [1, 2]}}\n"
    )
    specs = read_plan(tmp_path / "g.yaml").specs
    found = [(s.learner, s.params["epochs"]) for s in specs]
    assert found == [("simplecil", 1), ("simplecil", 2), ("min", 1), ("min", 2)]
    assert len({s.out for s in specs}) == 4 and all(s.stream.data == "digits" for s in specs)
    (tmp_path / "g.yaml").write_text("grid: {learnr: [a]}")
    with pytest.raises(InvalidRequestError, match="Did you mean 'learner'"):
        read_plan(tmp_path / "g.yaml")


def test_a_scenario_brings_its_split_and_order() -> None:
    once = RunSpec.of({"scenario": "all-at-once"}).stream
    half = RunSpec.of({"scenario": {"name": "base-to-new", "shots": 4}, "order": "pilot"})
    assert (once.split, once.order, once.scenario.shots) == ("all", "natural", 16)
    assert (half.stream.split, half.stream.order, half.stream.scenario.shots) == ("base-new", "pilot", 4)
    assert RunSpec.of({"scenario": "long-tail"}).stream.split == "B0-Inc10"
    assert RunSpec.of(half.flat()) == half
    assert half.flat()["scenario"] == {"name": "base-to-new", "shots": 4, "imbalance": 1.0}
    words = " ".join(half.arguments())
    assert "--scenario base-to-new --order pilot --set-scenario shots=4" in words and "--split" not in words


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"scenario": "few-shot"}, {"name": "all-at-once"}),
        ({"scenario": "few-shot", "shots": 4, "imbalance": 0.5}, {"name": "all-at-once", "shots": 4, "imbalance": 0.5}),
        ({"scenario": "base-to-new", "shots": 16}, {"name": "base-to-new"}),
        ({"shots": 8}, {"name": "class-incremental", "shots": 8}),
        ({"imbalance": 0.1}, {"name": "long-tail", "imbalance": 0.1, "profile": "labels"}),
        ({"scenario": "class-incremental", "shots": None, "imbalance": 1.0}, {"name": "class-incremental"}),
    ],
)
def test_former_spellings_mean_what_they_meant(old: dict, now: dict) -> None:
    split = {"few-shot": "all", "base-to-new": "base-new"}.get(old.get("scenario", ""), "B0-Inc10")
    written = {**old, "split": split} if "shots" not in old else old  # files of that time state the split
    assert RunSpec.of(written) == RunSpec.of({"scenario": now})


def test_a_scenario_changes_the_digest_and_its_absence_does_not() -> None:
    plain = RunSpec()
    without = {name: value for name, value in plain.flat().items() if name != "scenario"}
    assert RunSpec.of(without).digest() == plain.digest()
    changes = ({"shots": 4}, {"imbalance": 0.5}, {"scenario": "all-at-once", "split": "all"})
    assert len({plain.digest(), *(plain.with_(**change).digest() for change in changes)}) == 4


def test_older_digests_stay() -> None:
    """Computed by the version that knew no scenarios."""
    assert RunSpec().digest() == "d0a1a22b1aba114a"
    assert RunSpec(learner="min", params={"epochs": 3}).digest() == "776443c45e8d5be0"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenario": "base-to-now"}, "Did you mean 'base-to-new'"),
        ({"scenario": "all-at-once", "split": "B0-Inc5"}, "contradicts scenario = 'all-at-once'"),
        ({"scenario": {"name": "all-at-once", "shot": 4}}, "has no parameter 'shot'.*Did you mean 'shots'"),
        ({"scenario": 4}, "write a name, or name and parameters"),
        ({"scenario": {"name": "long-tail", "profile": "order"}}, "profile = 'order'"),
        ({"imbalance": 2}, "imbalance = 2"),
        ({"shots": 0}, "shots = 0"),
        ({"shots": "many"}, "shots = 'many'"),
    ],
)
def test_what_a_scenario_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(CillabError, match=message) as caught:
        RunSpec.of(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"scenario": {}, "shots": 2},
        {"scenario": {"parts": 3}, "imbalance": 0.1},
        {"scenario": [{"few-shot": None}] * 200},
        {"split": "B0-Inc" + "x" * 900},
        {"backbone": {"\x1b[2J": None}},
        {"probe_points": {"\n": None}, "backbone": {"k" * 900: None}},
    ],
)
def test_a_value_that_is_no_value_is_one_short_line(values: dict) -> None:
    with pytest.raises(CillabError) as told:
        refuse_early(RunSpec.of({"learner": "simplecil", "data": "digits", **values}))
    assert len(str(told.value)) < 400 and "\n" not in str(told.value)
