"""The glossary says everything of every quantity, and the page in docs is exactly it."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cillab import glossary
from cillab.lab.probe import METRICS

PAGE = Path(__file__).parents[1] / "docs" / "geometry.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == glossary.markdown(), "run `python scripts/geometry_docs.py`"


@pytest.mark.parametrize("entry", glossary.entries(), ids=lambda entry: entry.key)
def test_every_quantity_says_all_of_itself(entry: glossary.Entry) -> None:
    for field in ("name", "symbol", "summary", "formula", "range", "small_samples", "source"):
        assert getattr(entry, field).strip(), f"{entry.function} says no {field}"
    assert entry.summary[-1] in ".?"
    module, function = entry.function.rsplit(".", 1)
    text = " ".join((getattr(importlib.import_module(module), function).__doc__ or "").split())
    for field in ("source", "range"):
        words = getattr(entry, field).split()[1:8]
        assert " ".join(words) in text or entry.small_samples in text
    assert "lower" not in entry.range or entry.better != "higher", f"{entry.key}: the docstring says lower is better"
    assert "higher is better" not in entry.range or entry.better != "lower" or "lower" in entry.range


def test_entries_speak_of_quantities_and_not_of_calls() -> None:
    for entry in glossary.entries():
        for field in ("summary", "range", "small_samples", "meaning"):
            assert not re.search(r"`\w+ ?= ?\w+`|\b(True|False|None)\b", getattr(entry, field)), (entry.key, field)


def test_every_recorded_collapse_scalar_has_an_entry() -> None:
    for name in METRICS:
        assert glossary.entry(f"nc/train/{name}") is glossary.entry(f"nc/test/{name}")
    assert glossary.entry("cam/energy/predicted").key == "energy_inside"
    assert glossary.entry("drift/cosine").key == "cosine_drift"
    with pytest.raises(KeyError, match="The glossary has no 'nc6'"):
        glossary.entry("nc6")


def test_formulas_and_sources_are_told_apart() -> None:
    entry = glossary.entry("nc1_pinv")
    assert entry.formula.startswith("(1/K) tr(Sigma_W Sigma_B^+) = ")
    assert entry.source.startswith("Papyan, Han & Donoho, PNAS 117(40) 2020")
    assert entry.range == "[0, inf), lower is more collapsed, 0 = every class is a point"
    assert "n_c < D" in entry.small_samples
    sdc = glossary.entry("semantic_drift")
    assert sdc.formula.count("\n") == 1
    assert "et al., CVPR 2020, arXiv:2004.00440" in sdc.source  # no sentence ends after "al."


def test_records_are_plain_json_and_load_no_torch() -> None:
    records = json.loads(json.dumps(glossary.records()))
    assert {record["better"] for record in records} == {"lower", "higher", "neither"}
    assert len({record["key"] for record in records}) == len(records) > 50
    code = "import sys, cillab.glossary; cillab.glossary.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
