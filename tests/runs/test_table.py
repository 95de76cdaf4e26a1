"""The table over many runs. Oracle: the numbers that the test wrote into the results."""

import csv
import io
import json

import pytest

from cillab.core.errors import InvalidRequestError, RunError, UnknownNameError
from cillab.runs import RunInfo, RunWriter
from cillab.runs.index import Index
from cillab.runs.table import ranking, table
from tests.runs.edit import unsealed

PROTOCOL = {"data": "shields", "split": "B0-Inc10", "order": "pilot", "seed": 0, "backbone": "bundled:vit"}


def write(path, a_last: float | None, **protocol) -> None:
    info = RunInfo(tasks=[[1], [2]], protocol=PROTOCOL | {"learner": "min"} | protocol)
    writer = RunWriter.create(path, info)
    if a_last is not None:
        writer.result(
            {"a_last": a_last, "a_avg": a_last, "accuracy_seen": [a_last], "accuracy_matrix": [[a_last]]}
            | {"seconds": {"learn": 1.5, "probe": 0.5}}
        )


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "low", 0.25)
    write(tmp_path / "high", 0.75, learner="finetune")
    write(tmp_path / "going", None)
    write(tmp_path / "other", 0.99, split="B0-Inc5")
    write(tmp_path / "broken", 0.5)
    (tmp_path / "broken/run.json").write_text("{")
    return tmp_path


def test_rows_are_ranked_inside_their_protocol(folder):
    made = table(folder)
    ranks = {row["run"]: row["rank"] for row in made.rows}
    assert ranks == {"high": 1, "low": 2, "going": None, "other": 1, "broken": None}
    groups = [[row["run"] for row in rows] for rows in made.groups.values()]
    assert sorted(groups) == [["broken"], ["high", "low", "going"], ["other"]]
    assert {row["run"]: row["seconds"] for row in made.rows}["low"] == 2.0


def test_different_protocols_are_never_ranked_together(folder):
    rows = {row["run"]: row for row in table(folder).rows}
    assert [row["run"] for row in ranking([rows["low"], rows["going"], rows["high"]])] == ["high", "low"]
    with pytest.raises(InvalidRequestError, match="protocols differ: split = B0-Inc10, B0-Inc5"):
        ranking([rows["low"], rows["other"]])


def test_three_formats(folder):
    made = table(folder)
    markdown = made.text("md")
    assert "| 1 | high | finetune | 75.00 % |" in markdown
    assert "seed 0" in markdown
    assert "broken: " in markdown
    assert "run.json is damaged" in markdown
    assert json.loads(made.text("json")) == made.rows
    read = list(csv.DictReader(io.StringIO(made.text("csv"))))
    assert {row["run"]: row["a_last"] for row in read}["low"] == "0.25"
    with pytest.raises(UnknownNameError, match=r"'xlsx'\. Valid: csv, json, md"):
        made.text("xlsx")


def test_questions_in_sql(folder):
    index = Index(folder)
    assert index.sql("SELECT count(*) AS n FROM runs WHERE learner = ?", ["min"]) == [{"n": 3}]
    with pytest.raises(InvalidRequestError, match="nothing_like_it"):
        index.sql("SELECT nothing_like_it FROM runs")


def test_empty_and_missing_folders(tmp_path):
    assert table(tmp_path).text() == "No runs."
    with pytest.raises(RunError, match="is no folder"):
        table(tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="ranking 'beauty'"):
        table(tmp_path, by="beauty")


def test_scenarios_are_never_ranked_together_and_older_runs_are_class_incremental(tmp_path):
    write(tmp_path / "old", 0.5)
    write(tmp_path / "then", 0.6, scenario="class-incremental", shots=None, imbalance=1.0)
    write(tmp_path / "now", 0.6, scenario={"name": "class-incremental"})
    for name, protocol in (
        ("few", {"scenario": "few-shot", "split": "all"}),
        ("four", {"shots": 4}),
        ("tail", {"imbalance": 0.06}),
    ):
        write(tmp_path / name, 0.9, **protocol)
    info = json.loads(unsealed((tmp_path / "old/run.json").read_text()))
    del info["protocol"]["scenario"]
    (tmp_path / "old/run.json").write_text(json.dumps(info))
    made = table(tmp_path)
    assert sorted(sorted(row["run"] for row in rows) for rows in made.groups.values()) == [
        ["few"], ["four"], ["now", "old", "then"], ["tail"],
    ]  # fmt: skip
    rows = {row["run"]: row for row in made.rows}
    with pytest.raises(
        InvalidRequestError, match=r"scenario = class-incremental, long-tail\(imbalance=0\.06, profile=labels\)"
    ):
        ranking([rows["tail"], rows["old"]])
    assert "scenario all-at-once" in made.text() and "scenario class-incremental," not in made.text()


def test_numbers_of_a_scenario_have_columns_where_there_are_any(tmp_path):
    write(tmp_path / "plain", 0.5)
    write(tmp_path / "half", 0.5, scenario="base-to-new")
    result = json.loads(unsealed((tmp_path / "half/result.json").read_text()))
    (tmp_path / "half/result.json").write_text(json.dumps(result | {"accuracy_base": 0.8, "harmonic": 0.7}))
    markdown = {group[0]["run"]: text for group, text in zip(
        table(tmp_path).groups.values(), table(tmp_path).text().split("\n\n**"), strict=True)}  # fmt: skip
    assert "accuracy_base | harmonic |" in markdown["half"] and "| 80.00 % | 70.00 % |" in markdown["half"]
    assert "harmonic" not in markdown["plain"]
    assert [row["run"] for row in table(tmp_path, by="harmonic").rows if row["rank"] == 1] == ["half"]
