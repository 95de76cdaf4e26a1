"""What a newcomer meets first: pins, ranges, files that ship, and a README that tells the truth."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cillab
from cillab.runs.schema import SCALARS, SCHEMA_VERSION, SNAPSHOT_ARRAYS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in lines if line and not line.startswith("#"))
    }


def declared() -> list[Requirement]:
    return [Requirement(text) for text in [*PROJECT["dependencies"], *chain(*EXTRAS.values())]]


def test_every_dependency_is_pinned_inside_its_range() -> None:
    pinned = pins()
    for wanted in declared():
        if canonicalize_name(wanted.name) == "cillab":
            continue
        assert canonicalize_name(wanted.name) in pinned, f"{wanted.name} has no pin"
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), wanted


def test_torch_is_the_plain_one() -> None:
    assert not [name for name, version in pins().items() if "+" in version]  # no local build such as +cpu
    assert "index-url" not in (ROOT / "constraints.txt").read_text()


def test_what_is_installed_in_two_places_agrees() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == cillab.__version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    assert f"## {cillab.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    lines = environment["dependencies"][-1]["pip"]
    assert set(re.search(r"\[(.*)\]", lines[-1])[1].split(",")) <= set(EXTRAS)


def test_make_installs_only_extras_that_exist() -> None:
    text = (ROOT / "Makefile").read_text()
    named = {extra for group in re.findall(r"EXTRAS := (\S+)", text) for extra in group.split(",")}
    assert named <= set(EXTRAS)
    for target in ("app", "test", "test-all", "test-browser", "notebooks", "bench", "lint"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target


@pytest.mark.parametrize("name", ["README.md", "docs/README.md", "notebooks/README.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), f"{name} links to {link}"


def test_run_folder_page_names_every_array_and_scalar() -> None:
    text = (ROOT / "docs" / "run_folder.md").read_text()
    assert f"Version {SCHEMA_VERSION}" in text
    assert not [name for name in (*SNAPSHOT_ARRAYS, *SCALARS) if f"`{name}`" not in text]


def test_reading_and_drawing_loads_no_torch() -> None:
    code = "import sys, cillab, cillab.figures, cillab.demo; cillab.Run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    fast = code.replace('split="B0-Inc10"', 'split="B0-Inc50", train_per_class=4, test_per_class=2')
    fast = fast.replace("epochs=3", "epochs=1").replace("expansion=2048", "expansion=64")
    assert fast != code
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr("cillab.figures.Picture.show", shown.append)
    exec(compile(fast, "README.md", "exec"), {})
    assert len(shown) == 1
    assert (tmp_path / "runs" / "first" / "result.json").is_file()
