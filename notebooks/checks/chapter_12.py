"""Exercises of notebook 12: counting a folder of images, the accuracy row that a run folder wants."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_FILES = {
    "train/oak": ("a.png", "b.JPG", ".hidden.png", "notes.txt"),
    "train/elm": ("one.jpeg",),
    "train/ash": (),
    "test/oak": ("c.png",),
}


def check_census(attempt: Callable[[Path], Any]) -> Verdict:
    """`attempt(folder) -> {class: training images}` from folder/train/CLASS: .png, .jpg, .jpeg in any case."""
    with TemporaryDirectory() as where:
        for folder, names in _FILES.items():
            (Path(where) / folder).mkdir(parents=True)
            for name in names:
                (Path(where) / folder / name).touch()

        def asked(names: tuple[str, ...]) -> list[float]:
            found = attempt(Path(where))
            if not isinstance(found, Mapping):
                raise TypeError(f"a dict from class to number is wanted, not {type(found).__name__}")
            if set(found) == {"oak", "elm"}:
                raise ValueError("the class ash is missing. It has no image: say 0, that is what a census is for")
            if set(found) != {"ash", "oak", "elm"}:
                raise ValueError(f"the classes are ash, oak and elm, not {', '.join(sorted(map(str, found)))}")
            return [float(found[name]) for name in names]

        cases = [
            Case(
                (("oak", "elm"),),
                [2, 1],
                "train/oak, train/elm and the empty train/ash (counts of oak, elm)",
                (
                    ([4, 1], "Count images alone: neither texts nor files whose name begins with a dot."),
                    ([3, 1], "One of these is no image, or its name begins with a dot."),
                    ([1, 1], "Endings come in capitals too: b.JPG."),
                    ([2, 0], "There are .jpeg files as well."),
                    ([1, 0], "Endings: .png, .jpg and .jpeg, in small letters or capitals."),
                    ([3, 2], "Training images only: test/ is another split."),
                ),
            )
        ]
        return judge(
            asked, cases, "Look at these numbers before any training: one empty class explains many odd results."
        )


def check_row(attempt: Callable[[np.ndarray, np.ndarray, Mapping[int, int]], Any]) -> Verdict:
    """`attempt(truth, answers, task_of) -> accuracy per task`, tasks in order; ids of classes may have gaps."""
    truth, task_of = np.array([7, 7, 7, 7, 2, 90]), {7: 0, 2: 1, 90: 1}
    answers = np.array([7, 7, 2, 7, 2, 2])
    cases = [
        Case(
            (truth, answers, task_of),
            [0.75, 0.5],
            "class 7 in task 1, classes 2 and 90 in task 2",
            (
                ([2 / 3, 2 / 3], "One entry per task of the true class."),
                (2 / 3, "One entry per task, not one number for all."),
                ([0.5, 1 / 6], "Divide by the number of images of that task."),
                ([1.0, 1 / 3], "The task of the truth decides the entry, not that of the answer."),
                ([0.75, 1.0], "The right task is not enough: the class must be right."),
                ([0.75, 1.0, 0.0], "One entry per task, not per class."),
                ([75.0, 50.0], "Fractions, not percent."),
            ),
        ),
        Case((truth[:4], answers[:4], {7: 0}), [0.75], "one task"),
    ]
    return judge(attempt, cases, "The last row of the accuracy matrix, and all that a table needs.")


EXERCISES = {"census": check_census, "accuracy_row": check_row}
