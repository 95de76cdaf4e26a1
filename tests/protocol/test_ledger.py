"""The ledger: entries are requests of this package, verdicts are arithmetic, curves lie over runs."""

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from cillab import figures
from cillab.backbones import describe
from cillab.cli import app
from cillab.core.errors import IncompatibleError, InvalidRequestError, UnknownNameError
from cillab.core.params import build, parameters_of
from cillab.lab.reproduce import Reproduction, compared, found_of, page, reproduce, spec_for
from cillab.learners import check_fit, learners
from cillab.protocol.ledger import curve_of, entry_of, ledger, rows_of
from cillab.protocol.named import named_sets
from cillab.runs import Run

ENTRIES = list(ledger().values())
RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_a_request_with_a_source(entry) -> None:
    assert entry.source and (entry.a_avg is not None or entry.a_last is not None)
    assert len(entry.curve) in (0, len(entry.seen)) and entry.seen[-1] == entry.classes
    if entry.curve and entry.a_avg is not None:
        assert np.mean(entry.curve) == pytest.approx(entry.a_avg, abs=0.051) and entry.curve[-1] == entry.a_last
    if entry.learner is None:
        with pytest.raises(IncompatibleError, match=re.escape(entry.note)):
            spec_for(entry, 1993, Path("runs"), {})
    else:
        build(learners[entry.learner].Params, entry.params, entry.name)
        spec = spec_for(entry, 1993, Path("runs"), {} if entry.backbone else {"backbone": "bundled:vit"})
        assert (spec.stream.data, spec.stream.split) == (entry.data, entry.split)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_can_run_on_its_backbone_or_says_why_not(entry) -> None:
    if entry.learner is None:
        assert entry.note and not entry.params
    elif entry.backbone:
        card = describe(entry.backbone)
        check_fit(entry.learner, kind=card.kind, clip=card.clip, tag=card.tag)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.learner], ids=lambda entry: entry.name)
def test_an_entry_has_the_settings_of_its_own_data(entry) -> None:
    """Rules that hold in every configuration of the authors; they say more of a value than that it can be built."""
    p = build(learners[entry.learner].Params, entry.params, entry.name)
    assert all(name in {q.name for q in parameters_of(type(p))} for name in entry.params)  # `fit.lr`, never bare `lr`
    if entry.learner in ("mos", "rsiat", "ease") and entry.data != "cifar100":
        assert p.fit != type(p)().fit  # those of CIFAR-100 are nobody else's
    if entry.learner == "mos":
        assert p.each == 5 * p.fit.batch_size and (p.memory == "diagonal") == (entry.data == "imagenet-a")
    if entry.learner == "rsiat":
        assert p.first.lr == 0.01 and p.first.batch_size == p.fit.batch_size
        assert p.warmup * p.first.epochs == pytest.approx(round(p.warmup * p.first.epochs), abs=2e-3)  # whole epochs
    if entry.learner == "aper":  # as the logs print them: three of the files of settings have other ones today
        assert {"fit.epochs", "fit.batch_size", "fit.lr", "fit.weight_decay"} <= entry.params.keys()
        assert (p.bottleneck, p.length) == (64, 5) and p.fit.epochs in (5, 20)
        assert p.fit.epochs == 20 or p.variant in ("finetune", "vpt-deep")
        assert (p.fit.lr == 0.05) == (p.fit.batch_size < 48 and "RevisitingCIL" in entry.source)
        assert p.variant != "finetune" or (p.fit.weight_decay == 0.05) == (p.fit.batch_size == 48)
    if entry.learner == "proof":
        assert p.memory == 20 * (entry.classes - entry.classes % 100)  # 20 images a class at the end


def test_orders_and_licences_are_those_of_the_data() -> None:
    for entry in ENTRIES:
        assert (entry.order == "natural") >= (entry.data == "vtab"), entry.name  # a task is one of its five sets
        if entry.data in named_sets() and not named_sets()[entry.data].may_train:
            assert "no training" in entry.note, entry.name
    omni = {e.name for e in ENTRIES if e.data == "omnibenchmark" and "CVPR24-Ease" in e.source}
    assert len(omni) == 2 and {(ledger()[name].learner, name.partition("/")[0]) for name in omni} == {
        ("aper", "aper-adapter")
    }


def test_no_method_that_is_here_is_called_missing() -> None:
    assert not {e.name for e in ENTRIES if e.learner is None and e.name.partition("/")[0] in learners}


def test_at_least_twelve_can_run_where_cifar100_is() -> None:
    assert len([e for e in ENTRIES if e.data == "cifar100" and e.learner]) >= 12


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reproduction:
    """An entry cut to the digits that ship with scikit-learn, run over two class orders."""
    entry = entry_of("simplecil/cifar100-inc5").model_copy(
        update={"data": "digits", "classes": 10, "split": "B0-Inc5", "backbone": "bundled:vit", "transform": "tag",
                "curve": [90.0, 80.0], "a_avg": 85.0, "a_last": 80.0}
    )  # fmt: skip
    monkeypatch.setitem(ledger(), entry.name, entry)
    instead = {"train_per_class": 6, "test_per_class": 4}
    *steps, found = reproduce(entry.name, [1, 2], tmp_path, instead)
    assert len(steps) == 4
    assert [*reproduce(entry.name, [1, 2], tmp_path, instead)][:-1] == []  # finished runs are kept
    return found


def test_verdicts(small: Reproduction) -> None:
    assert len(small.runs) == 2 and "train_per_class 6" in small.stand_in and "stand-in" in small.verdict
    own = np.mean(small.ours("a_last"))
    for run in small.runs:
        run.protocol.__pydantic_extra__.update(train_per_class=None, test_per_class=None)
    near = small.entry.model_copy(update={"a_last": round(own + 0.5, 2), "a_avg": None})
    far = near.model_copy(update={"a_last": own + 2})
    assert Reproduction(near, small.runs).verdict == "reproduced within 0.7"
    assert Reproduction(far, small.runs).verdict == "differs by 2.0 points"
    assert Reproduction(near, ()).verdict == "not run here"
    other = near.model_copy(update={"backbone": "timm:vit_base_patch16_224.augreg_in21k"})
    assert Reproduction(other, small.runs).verdict == "same protocol, other backbone: trend only"
    small.runs[0].info.spec["params"] = {"fit": {"lr": 0.2}}  # of a run before the entry was corrected
    changed = Reproduction(near.model_copy(update={"params": {"fit.lr": 0.1}, "order": "natural"}), small.runs)
    assert changed.stand_in == ("order pilot", "fit.lr 0.2") and changed.verdict.startswith("stand-in")
    small.runs[0].info.spec["image_size"] = 32
    assert "image_size 32" in Reproduction(other, small.runs).stand_in
    assert Reproduction(other, small.runs).verdict.startswith("stand-in")


def test_the_trend_is_the_correlation_of_steps_over_the_published_order(small: Reproduction, monkeypatch) -> None:
    run = small.runs[0]
    ours = SimpleNamespace(accuracy_seen=[0.9, 0.7, 0.6, 0.55])  # 20, 10 and 5 points down
    monkeypatch.setattr(Run, "result", property(lambda self: ours))
    entry = small.entry.model_copy(update={"seed": run.protocol.seed})
    for curve, expected in (
        ([99.0, 97.0, 96.0, 95.5], 1.0),  # the same shape on another level and scale
        ([90.0, 89.5, 88.5, 86.0], -0.891),  # falls late
        ([90.0, 80.0, 70.0, 60.0], None),  # every step the same: nothing to correlate
        ([90.0, 80.0], None),  # of another length
    ):
        found = Reproduction(entry.model_copy(update={"curve": curve}), small.runs).trend
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-3))
    assert Reproduction(entry.model_copy(update={"seed": 99}), small.runs).trend is None  # other orders say nothing


def test_what_is_printed_and_written(small: Reproduction, tmp_path: Path) -> None:
    text = compared(small)
    assert "published 80.00 +- 0.7" in text and len(re.findall(r"^  [12]  ", text, re.MULTILINE)) == 2
    result = small.runs[0].result
    assert f"{100 * result.accuracy_seen[1] - 80:+6.2f}" in text
    written = page(tmp_path)
    assert all(f"| {name} |" in written for name in ledger())
    assert entry_of("aper-bn/cifar100-inc5-resnet18").note in written
    assert "  note: no dice\n" in compared(Reproduction(small.entry.model_copy(update={"note": "no dice"}), ()))
    first = written.partition("## Not run here")[0]
    assert "| simplecil/cifar100-inc5 |" in first and "stand-in" in first


def test_the_command_keeps_what_somebody_wrote_below_the_ledger(tmp_path: Path) -> None:
    written = tmp_path / "docs" / "ledger.md"
    for _ in range(2):
        asked = CliRunner().invoke(app, ["reproduce", "--page", str(written), "--out", str(tmp_path / "none")])
        assert asked.exit_code == 0, asked.output
        if "remarks" not in written.read_text():
            written.write_text(written.read_text() + "\n<!-- remarks -->\n\nkept\n")
    assert written.read_text().endswith("<!-- remarks -->\n\nkept\n")


def test_a_published_curve_lies_over_a_run(small: Reproduction, tmp_path: Path) -> None:
    picture = figures.accuracy(small.runs[0], published="ease/cifar100-inc5")
    trace = next(t for t in picture.figure.data if t.name == "published: ease/cifar100-inc5")
    np.testing.assert_allclose(trace.y, np.array(entry_of("ease/cifar100-inc5").curve) / 100, rtol=1e-6)
    assert (
        trace.x.tolist() == list(range(5, 101, 5))
        and "Published: ease/cifar100-inc5 ends at 85.8 %" in picture.sentence
    )
    (tmp_path / "mine.csv").write_text("classes,accuracy\n5,90\n10,80.5\n")
    both = figures.accuracy(small.runs, published=[tmp_path / "mine.csv", "simplecil/cifar100-inc5"])
    mine = next(t for t in both.figure.data if t.name == "published: mine")
    assert mine.y.tolist() == pytest.approx([0.9, 0.805])


@pytest.mark.parametrize(
    "text",
    [
        "classes,accuracy\n5,90\n10,80.5\n",
        "5,90\n10,80.5\n",  # no header: the first row counts
        "\ufeffclasses;accuracy\r\n5;90\r\n10;80,5\r\n;\r\n",  # a spreadsheet's, where the comma is the point
        "classes\taccuracy\tnote\n5\t0.9\tfirst\n10\t0.805\tlast\n",
    ],
)
def test_a_curve_is_read_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text, encoding="utf-8", newline="")
    classes, values = curve_of(tmp_path / "c.csv")
    assert classes.tolist() == [5, 10] and values.tolist() == pytest.approx([0.9, 0.805])


def test_a_published_curve_longer_than_the_run_is_shown_whole_under_its_own_name(
    small: Reproduction, tmp_path: Path
) -> None:
    (tmp_path / "Ours v2.csv").write_text("classes,accuracy\n10,90\n200,50\n")
    picture = figures.accuracy(small.runs[0], published=tmp_path / "Ours v2.csv")
    assert picture.figure.layout.xaxis.range[1] > 200 and "Published: Ours v2 ends at 50.0 %" in picture.sentence


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1,x\n", "a,b\n5,50\n5,40\n", "a,b\n5,500\n", "a,b\n5\n"])
def test_a_file_that_is_no_curve_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InvalidRequestError, match=r"c\.csv"):
        curve_of(tmp_path / "c.csv")


@pytest.mark.parametrize("field", ["field", "field-cifar100", "field-clip"])
def test_a_row_of_a_sweep_is_the_mean_of_its_runs(field: str) -> None:
    path = RESULTS / f"{field}.csv"
    runs = list(csv.DictReader(path.open(encoding="utf-8")))
    for row in rows_of(path):
        classes, values = curve_of(f"{path}:{row}")
        for number, found in (("a_last", values[-1]), ("a_avg", values.mean())):
            assert found == pytest.approx(np.mean([float(run[number]) for run in runs if run["row"] == row]), abs=1e-5)
        assert classes.tolist() == list(range(10, 101, 10))


def test_a_row_of_a_sweep_lies_over_a_run_and_a_wrong_one_names_the_nearest(small: Reproduction) -> None:
    path = RESULTS / "field.csv"
    picture = figures.accuracy(small.runs[0], published=[f"{path}:lda"])
    assert "published: lda (field)" in [trace.name for trace in picture.figure.data]
    with pytest.raises(UnknownNameError, match="Did you mean 'ranpac'"):
        curve_of(f"{path}:ranpca")
    with pytest.raises(InvalidRequestError, match=r"none\.csv is not there"):
        curve_of(f"{RESULTS}/none.csv:lda")
    with pytest.raises(InvalidRequestError, match=r"name one of its rows, as in .*field\.csv:simplecil"):
        curve_of(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("B0-Inc10", "B0-Inc5"),
        ("B0-Inc10", "B0-Inc20"),
        ("class-incremental", "si-blurry"),
        ('""split""', '""splt""'),
        (",0.9", ",high"),
        (",0.9", ",9"),
    ],
)
def test_a_row_without_a_curve_is_refused_in_one_line(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "x.csv").write_text((RESULTS / "field.csv").read_text(encoding="utf-8").replace(old, new))
    with pytest.raises(InvalidRequestError, match="the row lda has no curve"):
        curve_of(tmp_path / "x.csv:lda")


def test_unknown_names_and_entries_without_a_curve() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'simplecil/cifar100-inc5'"):
        curve_of("simplecil/cifar100-inc6")
    with pytest.raises(InvalidRequestError, match="no curve"):
        curve_of("slca/cifar100-inc10")
    assert found_of(entry_of("slca/cifar100-inc10"), Path("nowhere")).verdict == "not run here"
