"""A run by another program may hold little: its report shows what is there and names what is not."""

from pathlib import Path

import numpy as np

from cillab.report import write_report
from cillab.runs import RunInfo, RunWriter


def test_a_run_without_features_has_a_report(tmp_path: Path) -> None:
    info = RunInfo(tasks=[[0, 1]], class_names={0: "oak", 1: "elm"}, spec={"learner": "by hand"})
    writer = RunWriter.create(tmp_path / "run", info)
    writer.probe(["a", "b"], [0, 1], [0, 0])
    writer.snapshot(
        "t00",
        {
            "seen": np.array([0, 1], np.int32),
            "task_of_class": np.array([0, 0], np.int32),
            "predictions": np.array([0, 0], np.int32),
            "confusion": np.array([[1, 0], [1, 0]], np.int32),
            "accuracy/row": np.array([0.5], np.float64),
        },
    )
    writer.result({"a_last": 0.5, "a_avg": 0.5, "accuracy_seen": [0.5], "accuracy_matrix": [[0.5]]})
    write_report(tmp_path / "run", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<li>All cosines, by task: This run does not record `cosine` (cosines of the class means now" in page
    assert page.count("<figure ") >= 3  # accuracy, matrix, confusion
    assert "not stated" in page
    assert (
        "body { color: #1b1f24; background: #ffffff; }" in page
    )  # dark words need a ground of their own: pages may be dark
