"""The study of collapse and forgetting: rows by a loop over the arrays, planted relations, the page and its command."""

import math
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from cillab.cli import app
from cillab.core.errors import InvalidRequestError
from cillab.lab.study import CONTROL, MEASURES, OUTCOMES, Observations, _moves, associations, observations, table
from cillab.runs import Run
from cillab.study import forest, page, scatter, sentence, write_study
from tests.runs.synthetic import write_synthetic_run

METHODS = ("finetune", "simplecil", "acil", "joint")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(METHODS):
        write_synthetic_run(root / name, tasks=4, classes_per_task=3, probe=48, dim=8, seed=seed, learner=name)
    write_synthetic_run(root / "half", tasks=4, classes_per_task=3, probe=48, dim=8, finished=False, learner="min")
    return root


def test_every_row_is_what_the_arrays_of_its_run_say(runs) -> None:
    data = observations([runs])
    assert set(data.methods) == set(METHODS) and len(data) == 4 * 3
    assert data.left_out == (f"{runs / 'half'}: not finished",)
    run = Run(runs / "acil")
    rows = np.flatnonzero(data.method == data.methods.index("acil"))
    last, matrix = run.snapshot("t03"), run.accuracy_matrix()
    for task, row in enumerate(rows):
        then = run.snapshot(f"t{task:02d}")
        classes = [c for c, t in zip(then["seen"], then["task_of_class"], strict=True) if t == task]
        assert data.task[row] == task
        assert data.columns["forgetting"][row] == pytest.approx(matrix[task, task] - matrix[3, task])
        assert data.columns[CONTROL][row] == pytest.approx(matrix[task, task])
        deep = then["accuracy/fresh_then"][task] - last["accuracy/fresh_then"][task]
        assert data.columns["deep"][row] == pytest.approx(deep)
        assert data.columns["shallow"][row] == pytest.approx(matrix[task, task] - matrix[3, task] - deep)
        for when, shot in (("then", then), ("now", last)):
            means, seen = np.asarray(shot["means/now"], float), shot["seen"].tolist()
            around = means - means.mean(axis=0)
            mine = [seen.index(c) for c in classes]
            between = np.mean([v @ v for v in around])
            assert data.columns[f"nc1_{when}"][row] == pytest.approx(shot["nc/within"][mine].mean() / between)
            unit = around / np.linalg.norm(around, axis=1, keepdims=True)
            pairs = [abs(unit[i] @ unit[j] + 1 / (len(seen) - 1)) for i in mine for j in mine if i < j]
            assert data.columns[f"nc2_{when}"][row] == pytest.approx(np.mean(pairs), abs=1e-8)  # eight digits are kept
            assert data.columns[f"nc4_{when}"][row] == pytest.approx(shot["nc/nc4"][mine].mean())
        known, seen = then["seen"].tolist(), last["seen"].tolist()
        before = np.asarray(then["means/now"], float)
        after = np.asarray(last["means/now"], float)[[seen.index(c) for c in known]]
        turns = []
        for c in classes:
            a, b = (m[known.index(c)] - m.mean(axis=0) for m in (before, after))
            turns.append(math.degrees(math.acos(min(1.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b)))))
        assert data.columns["angle_drift"][row] == pytest.approx(np.mean(turns), abs=1e-4)
    assert data.families[data.methods.index("joint")] != "not installed"


def test_a_table_of_rows_stands_for_the_runs_it_came_from(runs, tmp_path) -> None:
    """All rows from the table; rows of a run that is there from the run; a file of something else by its name."""
    data, kept = observations([runs]), tmp_path / "kept.csv"
    kept.write_text(table(data), encoding="utf-8")
    again = observations([kept])
    assert (again.methods, again.families, again.simplex, again.protocol) == (
        data.methods, data.families, data.simplex, data.protocol,
    )  # fmt: skip
    for name, values in data.columns.items():
        np.testing.assert_allclose(again.columns[name], values, rtol=1e-6, equal_nan=True)
    assert (again.task.tolist(), again.seed.tolist()) == (data.task.tolist(), data.seed.tolist())
    kept.write_text(table(data).replace("finetune", "other").replace("True", "False"), encoding="utf-8")
    both = observations([runs / "acil", kept])
    assert sorted(both.methods) == sorted({"other", *METHODS} - {"finetune"}) and len(both) == len(data)
    kept.write_text("protocol,method\na,b\n", encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=r"kept\.csv is no table of a study"):
        observations([kept])
    with pytest.raises(InvalidRequestError, match="There is no file"):
        observations([tmp_path / "none.csv"])


def test_a_run_and_its_rows_in_a_table_have_the_same_ties(runs, tmp_path, monkeypatch) -> None:
    """Accuracies of tenths that differ by rounding: as ranks they would be an order from runs, a tie from a table."""
    whole = Run.accuracy_matrix
    rng = np.random.default_rng(0)

    def noisy(run: Run) -> np.ndarray:
        matrix = np.round(whole(run), 1)
        return matrix + 1e-16 * rng.integers(-4, 5, matrix.shape)

    monkeypatch.setattr(Run, "accuracy_matrix", noisy)
    data, kept = observations([runs]), tmp_path / "kept.csv"
    kept.write_text(table(data), encoding="utf-8")
    again = observations([kept])
    for name, values in data.columns.items():
        np.testing.assert_array_equal(again.columns[name], values)
    for name in ("forgetting", CONTROL):
        assert set(data.columns[name].tolist()) <= {k / 10 for k in range(-10, 11)}
    for outcome in OUTCOMES:
        assert str(associations(again, outcome, 20)) == str(associations(data, outcome, 20))  # NaN is not NaN
    assert table(again) == table(data)
    head, first, *_ = table(data).splitlines()
    older = first.rpartition(",")[0] + ",5.5511151e-17"  # a table written before numbers were rounded
    kept.write_text(f"{head}\n{older}\n", encoding="utf-8")
    assert observations([kept]).columns[CONTROL][0] == 0


def test_what_is_given_twice_counts_once(runs, tmp_path) -> None:
    """The same folder under other names, a copy of it, a table twice and its copy."""
    data, kept = observations([runs]), tmp_path / "kept.csv"
    kept.write_text(table(data), encoding="utf-8")
    for paths in (
        [runs, runs / "acil", runs.parent / "." / runs.name, os.path.relpath(runs)],
        [_link(tmp_path / "link", runs / "acil"), runs],
        [runs, kept],
    ):
        again = observations(paths)
        assert len(again) == len(data) and set(again.methods) == set(data.methods)
        assert len(again.left_out) == 1  # the half run
    copy = shutil.copytree(runs / "acil", tmp_path / "copy")
    again = observations([runs, copy])
    assert table(again) == table(data)
    assert again.left_out == (*data.left_out, f"{copy}: 3 rows with the same numbers in {runs / 'acil'}")
    other = shutil.copy(kept, tmp_path / "other.csv")
    assert observations([kept, kept]).left_out == ()
    again = observations([kept, other])
    assert table(again) == table(data) and again.left_out == (f"{other}: 12 rows with the same numbers in {kept}",)


def _link(path, target):
    path.symlink_to(target)
    return path


def test_two_runs_of_one_method_and_seed_that_differ_are_refused(runs, tmp_path) -> None:
    path = write_synthetic_run(tmp_path / "r", tasks=4, classes_per_task=3, probe=48, dim=8, seed=9, learner="acil")
    info, seed = Run(path).info, METHODS.index("acil")
    same = info.model_copy(update={"protocol": info.protocol.model_copy(update={"seed": seed})})
    assert len(observations([path, runs / "acil"])) == 6
    (path / "run.json").write_text(same.model_dump_json(), encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=rf"acil and .*r: two runs of acil with seed {seed} differ"):
        observations([runs / "acil", path])
    tables = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for place, run in zip(tables, (runs / "acil", path), strict=True):
        place.write_text(table(observations([run])), encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=r"one\.csv and .*two\.csv: two runs of acil"):
        observations(tables)
    assert len(observations([*tables, path])) == 3  # the run that is there counts


def test_a_run_is_found_in_a_table_that_names_its_settings(tmp_path) -> None:
    for seed, name in enumerate(("nearest", "prefix")):
        path = tmp_path / name
        write_synthetic_run(path, tasks=3, classes_per_task=3, probe=48, dim=8, seed=seed, learner="ncptm")
        info = Run(path).info
        spec = {**info.spec, "params": {"etf": name, "width": 4}}
        (path / "run.json").write_text(info.model_copy(update={"spec": spec}).model_dump_json(), encoding="utf-8")
    kept = tmp_path / "kept.csv"
    kept.write_text(table(observations([tmp_path])), encoding="utf-8")
    data = observations([kept, tmp_path / "nearest"])
    assert data.methods == ("ncptm", "ncptm etf=prefix") and len(data) == 4


def planted(seed: int = 0, methods: int = 12, rows: int = 9) -> Observations:
    """NC3 drives forgetting, NC4 falls with it, NC1 is nothing but accuracy when new, everything else is noise."""
    rng = np.random.default_rng(seed)
    method = np.repeat(np.arange(methods), rows)
    count = len(method)
    skill = rng.normal(size=methods)[method] + 0.5 * rng.normal(size=count)
    cause = rng.normal(size=methods)[method] + 0.5 * rng.normal(size=count)
    columns = {name: rng.normal(size=count) for name in (*MEASURES, *OUTCOMES)}
    forgetting = cause + 0.8 * skill + 0.1 * rng.normal(size=count)
    columns |= {CONTROL: skill, "forgetting": forgetting, "nc3_now": cause, "nc4_now": -cause, "nc1_then": skill}
    columns["nc2_now"] = np.full(count, np.nan)
    return Observations(
        columns, method, np.tile(np.arange(rows), methods), np.zeros(count, np.int64),
        tuple(f"m{i:02d}" for i in range(methods)), tuple("ab"[i % 2] for i in range(methods)),
        tuple(i == 0 for i in range(methods)), "shields, B0-Inc10", (),
    )  # fmt: skip


def test_planted_relations_are_found_and_what_accuracy_explains_is_not() -> None:
    found = {one.measure: one for one in associations(planted(), draws=100)}
    assert found["nc3_now"].partial.low > 0.5 and found["nc4_now"].partial.high < -0.5
    assert found["nc3_now"].within.low > 0.3 and found["nc3_now"].between.value > 0.3
    assert found["nc1_then"].all.value > 0.3
    assert not np.isfinite(found["nc1_then"].partial.value)  # it is the accuracy itself
    assert math.isnan(found["nc2_now"].all.value) and found["nc2_now"].all.count == 0
    noise = [found[name].partial for name in ("nc1_now", "nc2_then", "nc3_then", "mean_drift", "stale")]
    assert sum(one.low <= 0 <= one.high for one in noise) >= 4
    assert found["nc3_now"].first_task.count == 12
    assert found["nc3_now"].in_family.count == 12 and found["nc3_now"].in_family.groups == 2


def without(data: Observations, gone: set[int]) -> Observations:
    """No row of these methods, which are the last ones."""
    kept, count = ~np.isin(data.method, list(gone)), len(data.methods) - len(gone)
    return replace(
        data, columns={name: values[kept] for name, values in data.columns.items()}, method=data.method[kept],
        task=data.task[kept], seed=data.seed[kept], methods=data.methods[:count], families=data.families[:count],
        simplex=data.simplex[:count],
    )  # fmt: skip


def of_measure(name: str, data: Observations):
    (found,) = (one for one in associations(data, draws=40) if one.measure == name)
    return found


def test_methods_that_do_not_drift_have_no_say_in_drift_within_methods() -> None:
    data = planted()
    data.columns["angle_drift"][data.method >= 8] = 0
    found, wanted = (of_measure("angle_drift", d) for d in (data, without(data, {8, 9, 10, 11})))
    assert found.within == wanted.within and (found.within.count, found.within.groups) == (8 * 9, 8)
    assert found.all.groups == found.between.groups == 12


def test_families_that_cannot_be_ranked_are_not_drawn() -> None:
    """One has two methods, one does not drift."""
    data = replace(planted(), families=(*"aaaaabbbbb", "c", "c"))
    found, wanted = (of_measure("nc3_now", d).in_family for d in (data, without(data, {10, 11})))
    assert found == wanted and (found.count, found.groups) == (10, 2)
    data.columns["mean_drift"][data.method >= 5] = 0
    found, wanted = (of_measure("mean_drift", d).in_family for d in (data, without(data, set(range(5, 12)))))
    assert found == wanted and (found.count, found.groups) == (5, 1)


def test_the_page_says_what_was_found_and_keeps_remarks(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("cillab.study.find_spec", lambda name: None)  # as where kaleido is not installed: no browser
    data = planted()
    found = {outcome: associations(data, outcome, 20) for outcome in OUTCOMES}
    assert "NC3 when old" in sentence(found["forgetting"])
    text = page(data, found, {}, [tmp_path])
    assert "12 methods of 2 families" in text and "| NC3 when old | +" in text
    assert text.count("| m00 | a | 9 |") == 2  # once among all methods, once among simplices
    assert len(forest(found["forgetting"]).data) == 4 and len(scatter(data).data) == 12
    out = tmp_path / "page.md"
    out.write_text("old\n<!-- remarks -->\nkept words\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["study", str(runs), "--out", str(out), "--draws", "20"])
    assert done.exit_code == 0, done.output
    written = out.read_text(encoding="utf-8")
    assert "kept words" in written and "old\n" not in written.splitlines()[0]
    assert "half: not finished" in written


def test_a_file_of_somebody_else_is_not_overwritten_by_the_rows(runs, tmp_path) -> None:
    theirs = tmp_path / "mine.csv"
    theirs.write_text("image,label\n")
    for out, complaint in ((tmp_path / "mine.md", "another file"), (theirs, "not .*mine.csv")):
        with pytest.raises(InvalidRequestError, match=complaint):
            write_study([runs], out, draws=20)
    assert theirs.read_text() == "image,label\n" and list(tmp_path.iterdir()) == [theirs]


def test_runs_of_two_protocols_and_folders_without_any_are_refused(runs, tmp_path) -> None:
    with pytest.raises(InvalidRequestError, match="holds no run"):
        observations([tmp_path])
    path = write_synthetic_run(tmp_path / "r", tasks=3, classes_per_task=3, probe=48, dim=8, learner="joint")
    info = Run(path).info
    other = info.model_copy(update={"protocol": info.protocol.model_copy(update={"data": "elsewhere"})})
    (path / "run.json").write_text(other.model_dump_json(), encoding="utf-8")
    with pytest.raises(InvalidRequestError, match="2 protocols"):
        observations([path, runs / "acil"])


def test_one_learner_with_several_settings_is_several_methods(runs, tmp_path) -> None:
    for name in ("nearest", "prefix"):
        path = write_synthetic_run(tmp_path / name, tasks=3, classes_per_task=3, probe=48, dim=8, learner="ncptm")
        info = Run(path).info
        spec = {**info.spec, "params": {"etf": name, "width": 4}}
        (path / "run.json").write_text(info.model_copy(update={"spec": spec}).model_dump_json(), encoding="utf-8")
    data = observations([tmp_path])
    assert data.methods == ("ncptm etf=nearest", "ncptm etf=prefix")
    assert data.simplex == (True, True)
    assert replace(data, simplex=(False, False)).methods == data.methods


def test_a_field_that_came_later_does_not_part_runs_of_one_setting(tmp_path) -> None:
    for name, params in (("then", {"rank": 10}), ("now", {"rank": 10, "fit": {"epochs": 20}})):
        path = write_synthetic_run(tmp_path / name, tasks=3, classes_per_task=3, probe=48, dim=8, learner="lora")
        info = Run(path).info
        spec = {**info.spec, "params": params}
        (path / "run.json").write_text(info.model_copy(update={"spec": spec}).model_dump_json(), encoding="utf-8")
    assert observations([tmp_path]).methods == ("lora",)


def test_rounding_is_no_drift(runs) -> None:
    """Features of a frozen backbone move by 1e-7 degrees: ranked, that was an order of methods."""
    then = dict(Run(runs / "acil").snapshot("t00"))
    means = np.asarray(then["means/now"], np.float64)
    now = {**then, "means/now": means * (1 + 1e-9 * np.arange(len(means))[:, None]), "means/stored": means}
    assert _moves(then, now, then["seen"].tolist()) == {"angle_drift": 0, "mean_drift": 0, "stale": 0}
