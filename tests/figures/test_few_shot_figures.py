"""Figures of few-shot runs: the marks are the run's counts, the ranks those of the matrices."""

import numpy as np
import pytest

from cillab import figures
from cillab.figures.text_similarity import within
from cillab.geometry.spectrum import effective_rank
from cillab.runs import Run, RunInfo, RunWriter

SEEN = np.array([3, 0, 5, 1, 4, 2], np.int32)
IMAGES = np.array([4, 16, 2, 9, 2, 7], np.int32)  # in the order of SEEN
CLUSTERS = np.array([1, 0, 1, 0, 1, 0])


def few_shot_run(path, imbalance: float = 0.12) -> Run:
    rng = np.random.default_rng(0)
    info = RunInfo(tasks=[SEEN.tolist()], protocol={"scenario": "few-shot", "imbalance": imbalance})
    writer = RunWriter.create(path, info)
    writer.probe(["a"], [3], [0])
    confusion = rng.integers(0, 9, (6, 6)).astype(np.int32)
    frozen = np.eye(6, 8)[CLUSTERS] + 0.3 * rng.normal(size=(6, 8))
    shared = {"means/stored": np.eye(6, 8, dtype=np.float32)}
    writer.snapshot("t00", {
        "features": np.zeros((1, 8), np.float16), "logits": np.zeros((1, 6), np.float16),
        "predictions": SEEN[:1], "seen": SEEN, "task_of_class": np.zeros(6, np.int32), **shared,
        "means/now": shared["means/stored"], "means/test": shared["means/stored"],
        "head/weight": np.zeros((6, 8), np.float32), "confusion": confusion, "accuracy/row": np.ones(1),
        "cosine": np.eye(6, dtype=np.float16), "nc/within": np.ones(6), "train_images": IMAGES,
        "internals/text/frozen": frozen.astype(np.float32), "internals/text/clusters": CLUSTERS,
        "internals/text/prototypes": np.eye(6, 8, dtype=np.float32),
    })  # fmt: skip
    return Run(path)


def test_marks_are_the_accuracies_of_the_classes_in_label_order(tmp_path) -> None:
    run = few_shot_run(tmp_path / "r")
    picture = figures.head_medium_tail(run)
    confusion = run.snapshot("t00")["confusion"]
    by_label = {int(c): confusion[i, i] / confusion[i].sum() for i, c in enumerate(SEEN)}
    traces = {trace.name: trace for trace in picture.figure.data}
    for third, classes in (("head", (0, 1)), ("medium", (2, 3)), ("tail", (4, 5))):
        own = [by_label[c] for c in classes]
        np.testing.assert_allclose(traces[third].y, own, rtol=1e-6)
        assert traces[f"mean of the {third}"].y[0] == pytest.approx(np.mean(own))
        assert f"{100 * np.mean(own):.1f} % of the {third}" in picture.sentence
    assert traces["training images"].y.tolist() == [16, 9, 7, 4, 2, 2]
    assert "16 training images, the rarest 2 training images" in picture.sentence


def test_balanced_runs_and_learners_without_text_say_so(tmp_path) -> None:
    assert "same number of training images" in figures.head_medium_tail(few_shot_run(tmp_path / "r", 1.0)).sentence


def test_text_matrices_are_ordered_by_cluster(tmp_path) -> None:
    run = few_shot_run(tmp_path / "r")
    picture = figures.text_similarity(run)
    order = np.argsort(CLUSTERS, kind="stable")
    rows = run.snapshot("t00")["internals/text/frozen"][order].astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.where(np.eye(6, dtype=bool), np.nan, unit @ unit.T)
    frozen, learnt = (np.asarray(trace.z, float) for trace in picture.figure.data[:2])
    np.testing.assert_allclose(frozen, expected, atol=1e-6)
    np.testing.assert_allclose(learnt[~np.eye(6, dtype=bool)], 0, atol=1e-7)
    assert "effective rank of 6;" in picture.sentence and "between clusters" in picture.sentence


def test_effective_rank_and_means_by_hand() -> None:
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert effective_rank(np.ones((5, 5))) == pytest.approx(1)
    etf = (5 * np.eye(5) - 1) / 4
    assert effective_rank(etf) == pytest.approx(4)  # a simplex of 5 spans 4 dimensions
    cosines = np.array([[1, 0.8, 0.1], [0.8, 1, 0.3], [0.1, 0.3, 1]])
    assert within(cosines, np.array([0, 0, 1])) == pytest.approx((0.8, 0.2))
