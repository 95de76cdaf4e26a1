"""What figures say in words, over every figure that a run supports: for people who read no code."""

import re

import pytest

from cillab.figures import figures_of, named
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run

_CODE = re.compile(r"\b\w+=(?:True|False|None)\b|\bis a bug\b|\b(\d+) to \1 ")


@pytest.fixture(scope="module", params=["noise", "text", "etf"])
def run(request, tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / request.param
    return Run(write_synthetic_run(path, text=request.param == "text", etf=request.param == "etf", cams=True))


def test_no_sentence_is_code_or_counts_from_a_number_to_itself(run: Run) -> None:
    for figure in figures_of(run=run):
        picture = named(figure.name).draw(run)
        for text in (picture.sentence, *picture.notes):
            assert not _CODE.search(text), (figure.name, text)


def test_every_figure_of_nc1_over_the_tasks_says_that_it_grows_with_the_classes(run: Run) -> None:
    found = [one.name for one in figures_of(run=run) if "nc1_pinv" in one.quantities]
    assert found
    for name in found:
        assert any("NC1 grows with the number of classes" in note for note in named(name).draw(run).notes), name
