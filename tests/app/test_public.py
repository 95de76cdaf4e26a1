"""A server for others rebuilds nothing and names no folder of its machine; words can be read in both themes."""

import re
import tomllib
from html import escape
from pathlib import Path

import pytest

from tests.app.conftest import ROOT
from tests.app.test_pages import opened, words
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("streamlit")

from app.learner import live
from app.shell import html, picker
from app.shell.public import without_places
from app.shell.store import Broken, Entry, Opened
from app.views.start import overview
from cillab.demo import demo_runs
from cillab.runs import Run

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CILLAB_READONLY", "1")


def test_a_public_server_rebuilds_no_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    path = demo_runs()["min"]
    run = Opened(Entry("demo-min", path, "demo"), Run(path))
    task = run.snapshots[-1].task
    assert live.available(run) == [task]
    monkeypatch.setenv("CILLAB_READONLY", "1")
    assert live.available(run) == []
    assert "only shows" in str(live.load(run, task))  # also a hand-made message
    for page in ("noise_mixing", "grad_cam"):
        test = opened(page, run="demo-min", step="9", live="true")
        assert not test.exception
        assert not [toggle for toggle in test.toggle if toggle.key == "live"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Nothing lies in /srv/people/ann/runs: it was deleted", "Nothing lies in runs: it was deleted"),
        ("folder:/srv/ann/birds + ~/own/sets/cub", "folder:birds + cub"),
        ("'/srv/ann/x.py' line 3", "'x.py' line 3"),
        ("https://example.org/a/b, within/between, 1/(K-1), / and 3 / 4", None),
    ],
)
def test_a_public_server_cuts_paths_to_their_last_name(said: str, shown: str | None, monkeypatch) -> None:
    assert without_places(said) == said
    monkeypatch.setenv("CILLAB_READONLY", "1")
    assert without_places(said) == (shown or said)
    assert html.safe(said) == escape(shown or said)


def test_no_page_of_a_public_server_names_the_runs_folder(tmp_path: Path, public, only_these_runs) -> None:
    write_synthetic_run(tmp_path / "a", tasks=2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    only_these_runs(tmp_path)
    for page, query in (("start", {}), ("collapse", {"run": "gone"}), ("collapse", {"run": "bad"})):
        assert str(tmp_path) not in words(opened(page, **query)), page


def test_runs_that_cannot_be_read_hide_no_other() -> None:
    broken = [
        (Entry(f"b{i}", Path(f"b{i}"), "run"), Broken(Entry(f"b{i}", Path(), "run"), "damaged")) for i in range(9)
    ]
    path = demo_runs()["min"]
    entry = Entry("demo-min", path, "demo")
    rows = overview.readable_first([*broken, (entry, Opened(entry, Run(path)))])
    assert [one.key for one, _ in rows] == ["demo-min", *(f"b{i}" for i in range(9))]


def test_make_app_installs_whatever_the_pages_offer() -> None:
    offered = {n for p in (ROOT / "app").rglob("*.py") for n in re.findall(r"cillab\[([a-z]+)\]", p.read_text())}
    made = re.search(r"^\$\(VENV\)/\.app: EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert made is not None and offered and offered <= set(made[1].split(","))


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2, 1.4.3."""
    light = sorted(
        sum(w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for w, v in zip(weights, c, strict=True))
        for weights, c in (((0.2126, 0.7152, 0.0722), one), ((0.2126, 0.7152, 0.0722), other))
    )
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_coloured_and_soft_words_can_be_read(theme: str) -> None:
    """Every colour of words in the style sheet has a contrast of 4.5 with the ground, and none is thinned again."""
    sheet = (ROOT / "app" / "shell" / "style.css").read_text()
    given = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][theme]
    ground, ink = _rgb(given["backgroundColor"]), _rgb(given["textColor"])

    def mixed(colour: list[float], share: float, rest: list[float]) -> list[float]:
        return [share * a + (1 - share) * b for a, b in zip(colour, rest, strict=True)]

    assert not re.search(r"(?<![-\w])color: (#|var\(--\w+, #)", sheet)  # one hue cannot be read on both grounds
    soft = re.search(r"--soft: color-mix\(in srgb, currentColor (\d+)%, transparent\)", sheet)
    assert soft is not None and _contrast(mixed(ink, int(soft[1]) / 100, ground), ground) >= 4.5
    found = re.findall(r"(?<![-\w])color: color-mix\(in srgb, (#\w{6}) (\d+)%, currentColor\)", sheet)
    assert len(found) == 5
    for hue, share in found:
        assert _contrast(mixed(_rgb(hue), int(share) / 100, ink), ground) >= 4.5, hue
    for state, _ in picker._STATES.values():
        for back in ("backgroundColor", "secondaryBackgroundColor"):
            assert _contrast(_rgb(given[f"{state}TextColor"]), _rgb(given[back])) >= 4.5, state
    for rule in re.findall(r"\.ci-(?:badge|state)[^{]*\{[^}]*\}", sheet):
        assert not re.search(r"opacity: 0", rule), rule
