"""A learner from outside: begun with one command, installed, and there by its name in the shell and in the app."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cillab.authoring import new, new_learner
from cillab.core.errors import InvalidRequestError, UnknownNameError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a person who installed two packages beside cillab: one good, one that cannot be imported."""
    here = tmp_path_factory.mktemp("outside")
    good, bad = new_learner("tame-mean", here / "good"), new_learner("lame-mean", here / "bad")
    (bad / "lame_mean.py").write_text("import a_module_that_nobody_has\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    site = here / "site"
    for package in (good, bad):
        subprocess.run([*install, "--target", str(site), str(package)], check=True, capture_output=True)
    path = os.pathsep.join([str(ROOT), str(site)])
    return {**os.environ, "PYTHONPATH": path, "HOME": str(here), "PACKAGE": str(good)}


def cillab(world: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cillab", *words]
    return subprocess.run(command, env=world, capture_output=True, text=True, check=False, cwd=world["HOME"])


@pytest.mark.slow
def test_a_package_is_run_by_its_name(world: dict[str, str]) -> None:
    words = ("--learner", "tame-mean", "--set", "power=0.7", "--data", "shields", "--split", "B0-Inc30")
    ran = cillab(world, "run", *words, "--train-per-class", "4", "--test-per-class", "2", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    record = json.loads((Path(world["HOME"]) / "out" / "run.json").read_text())
    assert "tame-mean" in json.dumps(record)
    wrong = cillab(world, "run", "--learner", "tame-meen", "--data", "shields")
    assert wrong.returncode == 2 and "Did you mean 'tame-mean'?" in wrong.stderr


def test_a_package_stands_in_the_list_and_in_what_the_form_is_drawn_from(world: dict[str, str]) -> None:
    listed = cillab(world, "list", "learners")
    assert "tame-mean      nearest class mean of features" in listed.stdout
    assert "not usable: lame-mean = lame_mean  ModuleNotFoundError" in listed.stderr  # and all others are there
    assert "simplecil" in listed.stdout
    schema = json.loads(cillab(world, "list", "schema").stdout)
    assert "power" in json.dumps(schema["learners"]["tame-mean"])


@pytest.mark.slow
def test_the_package_passes_its_own_tests(world: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", world["PACKAGE"]]
    tested = subprocess.run(command, env=world, capture_output=True, text=True, check=False, cwd=world["HOME"])
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize("name", ["My Method", "acil", "1st", "a--b", "x" * 41, ""])
def test_a_name_that_will_not_do_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        new_learner(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="exists already"):
        new_learner("tame-mean", tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'learner'"):
        new("lerner", "tame-mean")


def test_what_is_written_is_formatted(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    folder = new_learner("tame-mean", tmp_path / "out")
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for words in (["check", "--ignore", "D,I", *settings], ["format", "--check", *settings]):
        subprocess.run([sys.executable, "-m", "ruff", *words, str(folder)], check=True, capture_output=True)


def on_the_page(words: str) -> str:
    """The one block of docs/build_a_learner.md that holds `words`."""
    page = (ROOT / "docs" / "build_a_learner.md").read_text()
    (text,) = [block for block in re.findall(r"```(?:python|toml)\n(.*?)```", page, re.DOTALL) if words in block]
    return text


@pytest.mark.slow
def test_whoever_follows_the_page_has_a_learner_that_passes_with_a_figure(tmp_path: Path) -> None:
    folder = new_learner("white-mean", tmp_path / "white-mean")
    learner, test, project = (folder / name for name in ("white_mean.py", "test_white_mean.py", "pyproject.toml"))
    shared, record = on_the_page("    Classifier, HyperParams"), on_the_page("    ridge: PositiveFloat")
    declared, shown = on_the_page('Internal("spectrum"').split("...\n", 1)
    declared = declared[declared.index("internals=") :].rstrip().removesuffix(")")
    made = "WhiteMeans(self.backbone.feature_dim, self.params.ridge, self.backbone.device)"
    text = learner.read_text()
    for old, instead in (
        (r"from cillab.kit import[^#]*# fmt: skip\n", shared.replace("HyperParams", "HyperParams, Internal")),
        (r'    power: .*\n    """.*"""\n', record),
        (r"Prototypes\(self.*\)", made),
        (r"    def shape\(.*\n.*\n.*\n\n", ""),
        (r"self\.shape\(h\)", "h"),
        (r"\n\)\n@final", f"\n    {declared},\n)\n@final"),
        (r'@method\(\n    "white', f'{on_the_page("class WhiteMeans(")}\n\n@method(\n    "white'),
    ):
        text, changed = re.subn(old, lambda _, instead=instead: instead, text)
        assert changed == 1, old
    learner.write_text(f"{text}\n{shown}")
    test.write_text(test.read_text().partition("def test_means_are")[0] + on_the_page("def test_logits_are"))
    (folder / "white_mean_figures.py").write_text(on_the_page("def scatter("))
    points = on_the_page('[project.entry-points."cillab.figures"]')
    project.write_text(project.read_text().partition("[tool.setuptools]")[0] + points)

    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(tmp_path / "site"), str(folder)], check=True, capture_output=True)
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "site")]), "HOME": str(tmp_path)}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        env=path, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert tested.returncode == 0 and "2 passed" in tested.stdout, tested.stdout
    words = ("--learner", "white-mean", "--data", "shields", "--split", "all", "--train-per-class", "2", "--out", "run")
    assert cillab(path, "run", *words, "--test-per-class", "1").returncode == 0
    assert cillab(path, "report", "run", "--out", "report.html").returncode == 0
    assert "The first direction holds" in (tmp_path / "report.html").read_text()


def test_the_part_on_the_page_keeps_its_equation_when_it_is_saved_and_loaded() -> None:
    """`WhiteMeans` as docs/build_a_learner.md prints it: another part stands inside it."""
    import torch

    from cillab import kit

    text = on_the_page("class WhiteMeans(")
    names = {**vars(kit)}
    exec(compile(text, "build_a_learner.md", "exec"), names)
    part, other = (names["WhiteMeans"](5, 0.1, torch.device("cpu")) for _ in range(2))
    rng = torch.Generator().manual_seed(0)
    h, labels = torch.randn(40, 5, generator=rng), torch.arange(40) % 3 + 7
    part.add(h[:20], labels[:20]), part.add(h[20:], labels[20:])
    other.load(part.state())
    assert other.classes == part.classes == (7, 8, 9)
    torch.testing.assert_close(other(h), part(h), rtol=0, atol=0)
    x = h.double()
    means = torch.stack([x[labels == c].mean(dim=0) for c in part.classes])
    s = sum(torch.outer(a, a) for a in x - means[labels - 7]) / len(x)
    s = s + 0.1 * s.trace() / 5 * torch.eye(5)
    away = x[4] - means[1]
    assert part(h)[4, 1].item() == pytest.approx(-(away @ torch.linalg.solve(s, away)).item(), rel=1e-4)
