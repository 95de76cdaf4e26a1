"""Text and transport: every part on a run with class names, the what-if against its own numbers, gaps said honestly."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.app.test_pages import opened, words
from tests.runs.synthetic import SCALE, unit, write_synthetic_run

pytest.importorskip("streamlit")

from app.shell.store import Entry, Opened
from app.views.text_transport import names
from cillab.figures import groups
from cillab.runs import Run

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def view(folders) -> Opened:
    path = folders["clip"] / "first"
    return Opened(Entry("first", path, "run"), Run(path))


@pytest.mark.parametrize("part", list(groups("text_transport")))
def test_every_part_draws_its_figures(part, folders, only_these_runs) -> None:
    only_these_runs(folders["clip"])
    chosen = groups("text_transport")[part]
    test = opened("text_transport", text=chosen.part.label, step="2")
    assert not test.exception, test.exception
    assert len(test.get("plotly_chart")) == len(chosen.figures)
    assert "Not in this run" not in words(test)


def test_the_link_decides_the_what_if_and_its_numbers_are_those_of_other_names(view, folders, only_these_runs) -> None:
    only_these_runs(folders["clip"])
    test = opened("text_transport", text="What if?", names="1.0", step="4")
    assert not test.exception, test.exception
    shot, labels = view.snapshots[4], view.run.probe.labels
    frozen = np.asarray(shot["internals/text/frozen"], float)
    answers = shot["seen"][(unit(np.asarray(shot["features"], float)) @ frozen.T).argmax(axis=1)]
    assert answers.tolist() != shot["predictions"].tolist()
    shown = words(test)
    assert f"{100 * (answers == labels).mean():.1f} %" in shown
    assert f"Answers changed</dt><dd>{(answers != shot['predictions']).sum()}<small>" in shown
    assert "No answer differs" in words(opened("text_transport", text="What if?", step="4"))


def test_bench_gives_the_scores_of_the_learner_and_each_control_does_what_it_says(view) -> None:
    found = names.bench(view, 4)
    assert found is not None
    assert found.scale == pytest.approx(SCALE, rel=1e-3)
    np.testing.assert_allclose(found.scores(), view.snapshots[4]["logits"][found.images.positions], atol=0.05)
    lowered = found.scores() - found.scores(handicap=3.0)
    np.testing.assert_allclose(lowered, np.tile(np.where(found.new, 3.0, 0.0), (len(lowered), 1)))
    assert not found.new[found.scores(handicap=1e3).argmax(axis=1)].any()
    centre = unit(np.asarray(view.snapshots[4]["means/now"], float)).mean(axis=0) - found.gap
    np.testing.assert_allclose(centre, found.learnt.mean(axis=0), atol=1e-9)


def test_a_learner_that_scores_in_another_way_gets_no_what_if(tmp_path) -> None:
    path = write_synthetic_run(tmp_path / "first", text=True, tasks=2)
    file = path / "steps" / "t01.safetensors"
    arrays = load_file(file)
    save_file(arrays | {"logits": (arrays["logits"].astype(np.float32) ** 2).astype(np.float16)}, file)
    view = Opened(Entry("first", path, "run"), Run(path))
    assert names.bench(view, 0) is not None
    assert names.bench(view, 1) is None


def test_a_learner_without_memory_says_what_is_not_there(tmp_path, only_these_runs) -> None:
    path = write_synthetic_run(tmp_path / "first", text=True, tasks=2, learner="coop")
    for file in (path / "steps").glob("*.safetensors"):
        kept = {n: a for n, a in load_file(file).items() if "gaussian" not in n and "bias" not in n}
        save_file(kept, file)
    only_these_runs(tmp_path)
    test = opened("text_transport", text="Transport")
    assert not test.exception, test.exception
    assert "Not in this run: Transport, Old against new." in words(test)
    for text in ("keeps no Gaussians of old classes", "No logits of old against new"):
        assert text in words(test)
    assert len(opened("text_transport", text="Modality gap").get("plotly_chart")) == 1


def test_collapse_shows_training_epochs_only_where_there_are_some(tmp_path, folders, only_these_runs) -> None:
    write_synthetic_run(tmp_path / "first", etf=True, tasks=3)
    only_these_runs(tmp_path)
    test = opened("collapse", collapse="While training", step="1")
    assert not test.exception, test.exception
    assert len(test.get("plotly_chart")) == 1
    assert "In task 2, NC1 fell" in words(test)
    only_these_runs(folders["plain"])
    assert "In task" not in words(opened("collapse", collapse="While training"))
