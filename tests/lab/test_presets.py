"""Presets are valid requests; rows and grids make the runs they say; the table is the arithmetic of the seeds."""

import csv
import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from cillab.backbones import FrozenBackbone, describe
from cillab.cli import app
from cillab.core.errors import IncompatibleError, InvalidRequestError, UnknownNameError
from cillab.core.params import build
from cillab.geometry.seeds import paired_difference, t_interval
from cillab.lab import Lab
from cillab.lab.lines import Line, by_class, from_csv
from cillab.lab.prepare import check_room, prepare
from cillab.lab.spec import RunSpec
from cillab.lab.sweep import Plan, presets, read_plan
from cillab.lab.sweep_page import check_page, sweep_page, write_sweep_page
from cillab.learners import check_fit, learners
from cillab.runs import Run


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_a_valid_request_for_every_run(name) -> None:
    plan = read_plan(f"preset:{name}")
    assert plan.title and len({spec.out for spec in plan.specs}) == len(plan.specs)
    for spec in plan.specs:
        build(learners[spec.learner].Params, spec.params, spec.learner)
        card = describe(spec.backbone.name)
        check_fit(spec.learner, kind=card.kind, clip=card.clip, tag=card.tag)
    assert len({spec.stream.seed for spec in plan.specs}) >= 3
    check_page(plan)


def test_rows_times_grid(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        f"# Title\n# and notes\ndata: digits\nout: {tmp_path}\n"
        "rows: {one: {learner: simplecil}, two: {learner: acil, params.gamma: 3}}\ngrid: {seed: [1, 2]}\n"
    )
    plan = read_plan(tmp_path / "p.yaml")
    assert (plan.title, plan.notes) == ("Title", "and notes")
    assert [(row, s.learner, s.stream.seed) for row, s in plan.rows] == [
        ("one", "simplecil", 1), ("two", "acil", 1), ("one", "simplecil", 2), ("two", "acil", 2)
    ]  # fmt: skip
    assert plan.specs[-1].params == {"gamma": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [("data: digits", "nothing varies"), ("rows: [1]", "needs `rows:`"), ("grid: {seed: 3}", "needs `grid:`")],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, text, message) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_plan(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("which", "wrong", "right"),
    [("report", "a_lst", "a_last"), ("detail", "withn", "within"), ("report", "nc/train/grm", "nc/train/gram")],
)
def test_a_column_that_there_is_not_is_refused_before_anything_runs(tmp_path: Path, which, wrong, right) -> None:
    (tmp_path / "p.yaml").write_text(f"out: {tmp_path}/runs\ngrid: {{seed: [1, 2]}}\n{which}: [{wrong}]\n")
    ended = CliRunner().invoke(app, ["sweep", str(tmp_path / "p.yaml")])
    assert isinstance(ended.exception, UnknownNameError) and f"Did you mean '{right}'" in str(ended.exception)
    assert not (tmp_path / "runs").exists()


def test_a_file_of_somebody_else_is_not_overwritten_by_the_csv_beside_a_table(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"out: {tmp_path}/runs\ngrid: {{seed: [1, 2]}}\nreport: [a_last]\n")
    theirs = tmp_path / "field.csv"
    theirs.write_text("image,label\n")
    ended = CliRunner().invoke(app, ["sweep", str(tmp_path / "p.yaml"), "--table", str(tmp_path / "field.md")])
    assert isinstance(ended.exception, InvalidRequestError) and "another file" in str(ended.exception)
    assert theirs.read_text() == "image,label\n" and not (tmp_path / "runs").exists()


def test_a_table_is_not_named_like_the_csv_beside_it(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"out: {tmp_path}/runs\ngrid: {{seed: [1, 2]}}\nreport: [a_last]\n")
    ended = CliRunner().invoke(app, ["sweep", str(tmp_path / "p.yaml"), "--table", "field.csv"])
    assert isinstance(ended.exception, InvalidRequestError) and "name field.md, not field.csv" in str(ended.exception)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'shields'"):
        read_plan("preset:sheilds")


def test_the_table_is_mean_interval_and_paired_difference(tmp_path: Path) -> None:
    plan_file = tmp_path / "p.yaml"
    plan_file.write_text(
        yaml.safe_dump(
            {
                "data": "digits", "split": "B0-Inc5", "train_per_class": 6, "test_per_class": 8, "probe_points": 10,
                "keep_checkpoints": "none", "precision": "fp32", "out": str(tmp_path / "runs"),
                "rows": {"means": {"learner": "simplecil"}, "ridge": {"learner": "acil"}, "third": {"learner": "lda"}},
                "grid": {"seed": [1, 2, 3]},
                "report": ["a_last", "nc/train/nc1"], "detail": ["within", "stored_images"],
            }
        )
    )  # fmt: skip
    plan = read_plan(plan_file)
    out = tmp_path / "t.md"
    with pytest.raises(InvalidRequestError, match="No run"):
        write_sweep_page(plan, out)
    assert not list(tmp_path.glob("t.*"))
    done = [(row, spec) for row, spec in plan.rows if row != "third"]
    for _, spec in done:
        list(Lab.from_spec(spec))
    number = {
        row: [json.loads((s.folder() / "result.json").read_text())["a_last"] for r, s in done if r == row]
        for row in ("means", "ridge")
    }

    def right_by_class(row: str) -> np.ndarray:
        """Accuracy of each digit after the last task, [seeds, 10], in the order of their names."""
        shots = [Run(s.folder()).snapshot("t01") for r, s in done if r == row]
        counts = [
            np.asarray(shot["confusion"])[np.argsort(shot["seen"])][:, np.argsort(shot["seen"])] for shot in shots
        ]
        return np.stack([np.diag(count) / count.sum(axis=1) for count in counts])

    write_sweep_page(plan, out)
    text = out.read_text()
    interval = t_interval([100 * x for x in number["ridge"]])
    assert f"| ridge | {interval.mean:.1f} ± {interval.half_width:.1f} |" in text
    gap = paired_difference([100 * x for x in number["ridge"]], [100 * x for x in number["means"]]).interval
    classes = t_interval(100 * (right_by_class("ridge") - right_by_class("means")).mean(axis=0))
    assert classes.mean == pytest.approx(gap.mean) and classes.half_width > 0
    assert f"| {gap.mean:+.1f} | ± {gap.half_width:.1f} | ± {classes.half_width:.1f} | 3 |" in text
    assert "| third |" not in text and "\nNot run yet: `third`.\n" in text
    behind = text.split("## Behind these numbers")[1].split("Made by")[0]
    within = [Run(s.folder()).metrics().over("accuracy/within_task", ("t01",))[0] for r, s in done if r == "ridge"]
    found = t_interval([100 * value for value in within])
    assert "*within*: the right class when the task is given." in behind
    assert f"| ridge | {found.mean:.1f} ± {found.half_width:.1f} | 0 | reproduction |" in behind
    lines = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert [(line["row"], int(line["seed"])) for line in lines] == [(row, s.stream.seed) for row, s in done]
    for line, (_, spec) in zip(lines, done, strict=True):
        result = json.loads((spec.folder() / "result.json").read_text())
        assert float(line["a_last"]) == pytest.approx(result["a_last"], rel=1e-5)
        curve = [float(line[f"seen {task + 1}"]) for task in range(2)]
        assert curve == pytest.approx(result["accuracy_seen"], rel=1e-5)
        assert float(line["nc/train/nc1"]) > 0 and line["precision"] == "fp32"
    check_page(plan, out)  # its own CSV is written anew
    out.write_text(out.read_text() + "\n<!-- remarks -->\nkept")
    write_sweep_page(plan, out)
    assert out.read_text().endswith("<!-- remarks -->\nkept") and out.read_text().count("# p") == 1
    out.with_suffix(".csv").unlink()
    shutil.rmtree(next(spec.folder() for row, spec in done if row == "means"))
    write_sweep_page(plan, out)
    assert "| 3, 2 paired |" in out.read_text()  # a difference over two orders does not look like three


def test_rows_of_another_sweep_stand_beside_where_protocols_agree(tmp_path: Path) -> None:
    def plan_of(name: str, rows: dict, **changed) -> Path:
        asked = {
            "data": "digits", "split": "B0-Inc5", "train_per_class": 6, "test_per_class": 8, "probe_points": 10,
            "keep_checkpoints": "none", "precision": "fp32", "out": str(tmp_path / name), "report": ["a_last"],
            "detail": ["within"], "rows": rows, "grid": {"seed": [1, 2]}, **changed,
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
        return tmp_path / f"{name}.yaml"

    def swept(plan: Path, beside: Path | None = None) -> str:
        for _, spec in read_plan(plan).rows:
            list(Lab.from_spec(spec))
        write_sweep_page(read_plan(plan), plan.with_suffix(".md"), beside)
        return plan.with_suffix(".md").read_text()

    field = plan_of("field", {"means": {"learner": "simplecil"}, "ridge": {"learner": "acil"}})
    theirs = swept(field)
    mine = plan_of("mine", {"mine": {"learner": "lda"}, "means": {"learner": "simplecil"}})
    text = swept(mine, tmp_path / "field.csv")
    asked = ["sweep", str(mine), "--table", str(tmp_path / "again.md"), "--beside", str(tmp_path / "field.csv")]
    assert CliRunner().invoke(app, asked).exit_code == 0  # every run is finished: it writes the page
    assert (tmp_path / "again.md").read_text() == text
    ridge = next(line for line in theirs.splitlines() if line.startswith("| ridge"))
    assert f"{ridge.split('|')[2]}|" in text  # the same mean and interval
    numbers = {
        (line["row"], line["seed"]): float(line["a_last"])
        for name in ("field", "mine")
        for line in csv.DictReader((tmp_path / f"{name}.csv").open())
    }
    gap = t_interval([100 * (numbers["ridge", seed] - numbers["mine", seed]) for seed in "12"])
    shots = {
        (name, row, seed): Run(tmp_path / name / row / f"seed={seed}").snapshot("t01")
        for name, row, seed in (("field", "ridge", 1), ("field", "ridge", 2), ("mine", "mine", 1), ("mine", "mine", 2))
    }
    right = {
        key: dict(zip(shot["seen"].tolist(), np.diag(shot["confusion"]) / 8, strict=True))
        for key, shot in shots.items()
    }
    by_class = t_interval(
        [50 * sum(right["field", "ridge", s][c] - right["mine", "mine", s][c] for s in (1, 2)) for c in range(10)]
    )
    assert f"| {gap.mean:+.1f} | ± {gap.half_width:.1f} | ± {by_class.half_width:.1f} | 2 |" in text
    assert text.count("\n| means |") == 2 and "From `field.csv` (fp32): `ridge`." in text  # own rows win
    assert "reproduction |" in text.split("## Behind")[1] and "left out" not in text

    fewer = plan_of("fewer", {"mine": {"learner": "lda"}}, test_per_class=7, grid={"seed": [1]})
    other = swept(fewer, tmp_path / "field.csv")
    assert "| ridge |" not in other and "4 of its runs have other images" in other
    refused = CliRunner().invoke(app, ["sweep", str(mine), *asked[-2:]])
    assert isinstance(refused.exception, InvalidRequestError) and "--table" in str(refused.exception)
    (tmp_path / "strange.csv").write_text("row,seed,a_last\nx,1,0.5\n")
    for path, says in (("strange.csv", "is no CSV of a sweep"), ("strnge.csv", "Did you mean")):
        asked = ["sweep", str(mine), "--table", str(tmp_path / "t.md"), "--beside", str(tmp_path / path)]
        ended = CliRunner().invoke(app, asked)
        assert isinstance(ended.exception, InvalidRequestError) and says in str(ended.exception)


def test_a_run_whose_folder_is_gone_keeps_its_line_while_the_plan_asks_for_it(tmp_path: Path) -> None:
    ridge, lines_of = {"learner": "acil", "params": {"expansion": 64}}, tmp_path / "t.csv"
    asked = {
        "data": "digits", "split": "B0-Inc5", "train_per_class": 6, "test_per_class": 8, "probe_points": 10,
        "keep_checkpoints": "none", "precision": "fp32", "out": str(tmp_path / "runs"), "report": ["a_last"],
        "rows": {"means": {"learner": "simplecil"}, "ridge": ridge}, "grid": {"seed": [1, 2]},
    }  # fmt: skip

    def plan_of(**changed) -> Plan:
        (tmp_path / "p.yaml").write_text(yaml.safe_dump({**asked, **changed}, sort_keys=False))
        return read_plan(tmp_path / "p.yaml")

    def written(**changed) -> list[tuple[str, str]]:
        write_sweep_page(plan_of(**changed), tmp_path / "t.md")
        return [(line["row"], line["seed"]) for line in csv.DictReader(lines_of.open())]

    for spec in plan_of().specs:
        list(Lab.from_spec(spec))
    everything = written()
    text, before = (tmp_path / "t.md").read_text(), lines_of.read_text()
    spec = json.loads(next(csv.DictReader(lines_of.open()))["spec"])
    assert spec["params"] == learners["simplecil"].Params().model_dump(mode="json") and "out" not in spec
    shutil.rmtree(tmp_path / "runs" / "means")
    shutil.rmtree(tmp_path / "runs" / "ridge" / "seed=2")
    assert written() == everything and len(everything) == 4
    assert (tmp_path / "t.md").read_text() == text and lines_of.read_text() == before
    other = {**ridge, "params": {"expansion": 32}}  # neither the line nor the folder is what the row asks for now
    assert written(rows={**asked["rows"], "ridge": other}) == [("means", "1"), ("means", "2")]
    lines_of.write_text(before)
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(InvalidRequestError, match="No run"):
        written(train_per_class=7)
    lines_of.write_text(before)
    (tmp_path / "t.md").unlink()
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**asked, "grid": {"seed": [1, 2, 3]}}, sort_keys=False))
    command = ["sweep", str(tmp_path / "p.yaml"), "--missing"]
    refused = CliRunner().invoke(app, command)
    assert str(refused.exception) == "--missing reads the CSV beside --table: name that too."
    done = CliRunner().invoke(app, [*command, "--table", str(tmp_path / "t.md")])
    assert done.exit_code == 0 and done.output.startswith(f"4 of 6 runs stand in {lines_of}.\n"), done.output
    assert sorted(path.parent.name for path in (tmp_path / "runs").glob("*/seed=*")) == ["means", "ridge"]
    assert [line["seed"] for line in csv.DictReader(lines_of.open())] == ["1", "1", "2", "2", "3", "3"]
    lines_of.write_text(before.replace('""precision""', '""precisoin""'))
    with pytest.raises(InvalidRequestError, match=r"row 'means', seed 1, .*Did you mean 'precision'"):
        check_page(plan_of(), tmp_path / "t.md")  # before anything runs


@pytest.mark.parametrize("images", [(8, 8, 8), (1, 5, 30)])
def test_accuracies_of_single_classes_average_to_that_of_all_images(images: tuple[int, ...]) -> None:
    counts = np.diag(images) - np.diag([1, 2, 3])
    counts[:, 0] += [1, 2, 3]  # 1, 2 and 3 images of each class are called class 0
    shot = {"confusion": counts, "seen": np.array([7, 3, 5])}
    found = by_class(Mock(spec=Run, steps=("t00",), snapshot=lambda step: shot))
    assert set(found) == {3, 5, 7}
    assert np.mean(list(found.values())) == pytest.approx(np.trace(counts) / counts.sum())


def test_a_table_of_another_number_says_nothing_of_classes(tmp_path: Path) -> None:
    numbers = {"harmonic": 0.5}
    lines = [
        Line(row, seed, "simplecil", "p", {"precision": "fp32"}, numbers, (), {})
        for row in ("one", "two")
        for seed in (1, 2)
    ]
    (tmp_path / "p.yaml").write_text(
        "rows: {one: {learner: simplecil}, two: {learner: acil}}\ngrid: {seed: [1, 2]}\nreport: [harmonic]\n"
    )
    text = sweep_page(read_plan(tmp_path / "p.yaml"), lines)
    assert "class (mean" not in text and "over classes" not in text
    assert "| two | 50.0 ± 0.0 | +0.0 | ± 0.0 | 2 |" in text


@pytest.mark.parametrize(
    "text",
    ["", "row,seed\n", "a,b\n1,2\n", "{head}\nx,1\n", "{head}\nx,one,l,p,fp32,cpu,c,0.5,0:1\n", "\x00\x01",
     "{head}\nx,1,l,p,fp32,cpu,c,high,0:1\n", "{head}\nx,1,l,p,fp32,cpu,c,0.5,0=1\n",
     "{head}\nx,1,l,p,fp32,cpu,c,0.5,0:1,9,9\n"],
)  # fmt: skip
def test_a_damaged_csv_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text(text.format(head="row,seed,learner,protocol,precision,device,commit,a_last,classes"))
    with pytest.raises(InvalidRequestError, match="no CSV of a sweep") as refused:
        from_csv(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("which", ["report", "detail"])
def test_columns_that_are_no_list_are_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "p.yaml").write_text(f"grid: {{seed: [1, 2]}}\n{which}: a_last\n")
    with pytest.raises(InvalidRequestError, match=f"`{which}:` needs a list of columns"):
        read_plan(tmp_path / "p.yaml")


def test_a_simplex_without_room_is_refused_before_anything_loads() -> None:
    with pytest.raises(IncompatibleError, match="room for 193"):
        check_room("timm:deit_tiny_patch16_224.fb_in1k", learners["ncptm"], 200)
    check_room("timm:vit_base_patch16_224.augreg_in21k", learners["ncptm"], 769)
    check_room("bundled:vit", learners["simplecil"], 10_000)


def test_dmc_on_a_timm_vit_is_refused_before_anything_loads() -> None:
    with pytest.raises(IncompatibleError, match="no text side"):
        prepare(RunSpec(data="digits", learner="dmc", backbone="timm:vit_base_patch16_224.augreg_in21k"))


def test_runs_share_features_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec(data="digits", split="B0-Inc5", learner="acil", train_per_class=4, test_per_class=2)
    alone = Lab.from_spec(spec.with_(out=str(tmp_path / "alone")))
    list(alone)
    monkeypatch.setenv("CILLAB_FEATURES", str(tmp_path / "features"))
    for out in ("first", "second"):
        lab = Lab.from_spec(spec.with_(out=str(tmp_path / out)))
        list(lab)
        assert lab.run.result.accuracy_matrix == alone.run.result.accuracy_matrix
        lab.backbone.memory.flush()  # pyright: ignore[reportAttributeAccessIssue]
    (shard,) = (tmp_path / "features").rglob("*.safetensors")  # the second run had nothing to add
    assert shard.stat().st_size > 0


def test_closed_forms_over_one_backbone_cost_one_extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CILLAB_FEATURES", str(tmp_path / "features"))
    forwarded, own = [0], FrozenBackbone._embed

    def embed(backbone: FrozenBackbone, pixels: torch.Tensor) -> torch.Tensor:
        forwarded[0] += 0 if torch.is_grad_enabled() else len(pixels)
        return own(backbone, pixels)

    monkeypatch.setattr(FrozenBackbone, "_embed", embed)
    found = {}
    given = {"ranpac": {"adapt": "none", "expansion": 64}}  # its own first session makes another backbone of it
    for name in ("simplecil", "ncm-etf", "lda", "klda", "fecam", "acil", "teen", "ranpac"):
        forwarded[0] = 0
        spec = RunSpec(
            data="digits",
            split="B0-Inc5",
            learner=name,
            train_per_class=4,
            test_per_class=2,
            params=given.get(name, {}),
        )
        lab = Lab.from_spec(spec.with_(out=str(tmp_path / name)))
        list(lab)
        lab.backbone.memory.flush()  # pyright: ignore[reportAttributeAccessIssue]
        found[name] = forwarded[0]
    assert found.pop("simplecil") >= 60 and not any(found.values()), found
