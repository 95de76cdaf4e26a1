"""Facts and scenarios: one place each, open to other packages; every past schema opens."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from cillab.core.errors import InvalidRequestError
from cillab.lab import Lab
from cillab.lab.catalogue import catalogue
from cillab.lab.spec import RunSpec
from cillab.protocol import FACTS, Deck, Plan, Protocol, Scenario, declare, make_scenario, protocol_key, scenarios
from cillab.protocol.dealing import by_class
from cillab.protocol.scenario import scenario
from cillab.runs import Run
from cillab.runs.table import ranking, table
from cillab.streams.stream import make_stream
from tests.lab.fakes import Line, Tiny
from tests.streams.worlds import array_source

FORMER = Path(__file__).parent / "former"


@pytest.fixture
def reversed_scenario():
    """A scenario as another package would write it, taken out again afterwards."""

    @scenario("reversed")
    class Reversed(Scenario):
        """The last classes first, so many at a time."""

        order: ClassVar[str] = "natural"
        way: int = 2
        """Classes of a task."""

        def deal(self, deck: Deck) -> tuple[Plan, ...]:
            return by_class(deck, [self.way] * (len(deck.order) // self.way), deck.train)[::-1]

    yield Reversed
    del scenarios._entries["reversed"]


@pytest.fixture
def weather():
    """A fact that results must agree on before they are ranked together."""
    sky = ["rain"]
    declare("weather", str, lambda made: sky[0], key=True)
    yield sky
    del FACTS["weather"]


def run(path: Path, **asked: object) -> Run:
    lab = Lab(make_stream(array_source(), **asked), Tiny(Line()), path, probe_points=6, train_probe_per_class=2)
    list(lab)
    return lab.run


@pytest.mark.usefixtures("reversed_scenario")
def test_a_scenario_from_outside_is_everywhere(tmp_path: Path) -> None:
    made = run(tmp_path / "r", scenario="reversed", way=3)
    assert made.info.tasks == [[3, 4, 5], [0, 1, 2]]
    assert made.spec["scenario"] == {"name": "reversed", "way": 3}
    assert json.loads((made.path / "run.json").read_text())["protocol"]["scenario"] == {"name": "reversed", "way": 3}
    again = RunSpec.read(made.path / "spec.yaml")
    assert again.stream.scenario == make_scenario("reversed", way=3) and again.stream.split == "scenario"
    assert "--scenario reversed " in again.command() and "--set-scenario way=3" in again.command()
    assert catalogue()["scenarios"]["reversed"]["params"]["properties"]["way"]["description"] == "Classes of a task."
    assert table(tmp_path).rows[0]["scenario"] == "reversed(way=3)"
    with pytest.raises(InvalidRequestError, match=r"no parameter 'wax'.*Did you mean 'way'"):
        RunSpec.of({"scenario": {"name": "reversed", "wax": 3}})


def test_a_run_whose_scenario_is_not_installed_can_be_read(tmp_path: Path, reversed_scenario: type) -> None:
    del reversed_scenario
    made = run(tmp_path / "r", scenario="reversed", way=3)
    entry = scenarios._entries.pop("reversed")
    try:
        assert Run(made.path).protocol.scenario.text == "reversed(way=3)"
        assert table(tmp_path).rows[0]["scenario"] == "reversed(way=3)"
    finally:
        scenarios._entries["reversed"] = entry


def test_a_fact_from_outside_is_stated_and_keeps_rankings_apart(tmp_path: Path, weather: list[str]) -> None:
    wet = run(tmp_path / "wet", split="B0-Inc2")
    weather[0] = "sun"
    run(tmp_path / "dry", split="B0-Inc2")
    assert wet.protocol.weather == "rain" and wet.result is not None and wet.result.protocol.weather == "rain"
    found = table(tmp_path)
    assert "weather rain" in found.text() and len(found.groups) == 2 and "weather" in protocol_key()
    with pytest.raises(InvalidRequestError, match=r"weather = rain, sun"):
        ranking(found.rows)


def test_a_field_of_a_record_is_an_option_a_fact_a_column_and_a_control() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cillab", "run", "--help"], capture_output=True, text=True, check=True
    )
    for name in RunSpec.settings():
        assert name == "params" or f"--{name.replace('_', '-')}" in shown.stdout, name
    form = RunSpec.schema_of_settings()["properties"]
    assert set(form) == set(RunSpec.settings()) == set(RunSpec().flat())
    assert {"data", "split", "scenario", "order", "seed", "backbone", "transform"} <= set(FACTS)


def test_nothing_is_stated_that_nobody_said() -> None:
    row = Protocol.model_validate({"data": "shields"})
    assert (row.data, row.seed, row.split, row.exemplars) == ("shields", None, "", None)
    assert Protocol.model_validate({"sky": 3}).model_dump()["sky"] == 3  # what a newer writer says is kept


DIGESTS = [
    ({"split": "B0-Inc2"}, "622b6d9ee4e35f0f"),
    ({"split": "B0-Inc2", "shots": 4}, "e884733fd3d6c5f2"),
    ({"scenario": "all-at-once", "shots": 4, "imbalance": 0.25}, "d29beba0ca9afad4"),
    ({"scenario": "base-to-new", "shots": 8, "imbalance": 0.5, "seed": 3}, "873e191e1df549c4"),
    (
        {"split": "B2-Inc2", "scenario": "long-tail", "profile": "labels", "shots": 8, "imbalance": 0.2},
        "e81f592a209a4727",
    ),
]


@pytest.mark.parametrize("path", sorted(FORMER.glob("*.json")), ids=lambda path: path.stem)
def test_run_files_of_the_past_open(path: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(path.read_text())
    made, expected = Run(tmp_path), json.loads(path.read_text())["expected"]
    assert made.protocol.scenario.text == expected["scenario"]
    spec = RunSpec.of(made.spec)
    assert spec.stream.scenario == made.protocol.scenario
    assert (spec.stream.split, spec.backbone.name, spec.digest()) == (
        expected["split"], expected["backbone"], expected["digest"],
    )  # fmt: skip
    assert RunSpec.of(spec.flat()) == spec


def test_the_same_images_as_before_scenarios_had_parameters() -> None:
    """Digests of manifests computed by the version before."""
    source = array_source(classes=6, train=9)
    for asked, digest in DIGESTS:
        assert make_stream(source, **asked).digest[:16] == digest, asked


def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        "from tests.streams.worlds import array_source; from cillab.streams.stream import make_stream;"
        "print(make_stream(array_source(), 'B0-Inc2', scenario='long-tail', imbalance=0.2, profile='shuffled').digest)"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = make_stream(array_source(), "B0-Inc2", scenario="long-tail", imbalance=0.2, profile="shuffled")
    assert here.digest == there and np.all([len(plan.train) for plan in here.plans])


def test_the_page_of_scenarios_names_each_with_its_parameters() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    for name in scenarios:
        section = page.partition(f"### `{name}`")[2].partition("### ")[0]
        for field, info in scenarios[name].model_fields.items():
            assert f"`{field}` ({json.dumps(info.default).strip(chr(34))})" in section, (name, field)
