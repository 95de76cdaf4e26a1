"""Threads that wait sleep, wherever one comes in."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cillab.core import threads

ROOT = Path(__file__).parents[2]
NAMES = ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT", "OMP_NUM_THREADS")
OWN = ("cillab", "app", "tests")


def clean(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NAMES} | more


def told(code: str, **more: str) -> str:
    """What OpenMP itself says about its environment when it is loaded by `code`."""
    env = clean(OMP_DISPLAY_ENV="true", **more)
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("door", ["cillab", "cillab.cli", "cillab.lab.jobs", "cillab.plane.joint", "cillab.kit"])
def test_every_door_of_the_package_makes_openmp_passive(door: str) -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told(f"import {door}, torch")


def test_what_the_user_has_chosen_stays() -> None:
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in told("import cillab, torch", OMP_WAIT_POLICY="active")


def test_the_app_settles_it_too() -> None:
    pytest.importorskip("streamlit")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told("import app.shell.server, app.shell.store, cillab, torch")


def test_children_inherit_it() -> None:
    ask = "import os; print(os.environ['OMP_WAIT_POLICY'])"
    code = f"import cillab, subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {ask!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "passive"


def test_too_late_is_said() -> None:
    ask = "import torch, cillab; from cillab.core import threads; print(threads.in_force())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=clean(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "too late for torch: import cillab first" in done.stdout


def test_the_line_says_who_chose() -> None:
    ask = "import cillab; from cillab.core import threads; print(threads.in_force())"
    env = clean(OPENBLAS_THREAD_TIMEOUT="9")
    done = subprocess.run([sys.executable, "-c", ask], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "OMP_WAIT_POLICY=passive (cillab)" in done.stdout
    assert "OPENBLAS_THREAD_TIMEOUT=9 (your environment)" in done.stdout


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_quota_of_a_container(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(threads, "machine_cores", lambda: 8)
    assert threads.usable_cores(tmp_path) == cores


def test_a_quota_limits_the_threads_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "machine_cores", lambda: 64)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "_ours", {})
    monkeypatch.setattr(threads, "_late", set())
    free: dict[str, str] = {}
    threads.settle(free)
    assert free["OMP_NUM_THREADS"] == "2"
    chosen = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    threads.settle(chosen)
    assert (chosen["OMP_NUM_THREADS"], chosen["OMP_WAIT_POLICY"]) == ("7", "active")


def first_imports(path: Path) -> list[str]:
    """Packages in the order in which the file imports them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name.split(".")[0]) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, (node.module or "").split(".")[0]))
    return [name for _, name in sorted(found)]


@pytest.mark.parametrize("folder", ["benchmarks", "notebooks/sources", "scripts"])
def test_scripts_and_notebooks_load_cillab_before_torch(folder: str) -> None:
    wrong = []
    for path in sorted((ROOT / folder).glob("*.py")):
        if folder == "scripts" and "__main__" not in path.read_text():
            continue  # a module of another script
        names = first_imports(path)
        torch_at = min((names.index(name) for name in ("torch", "timm", "sklearn") if name in names), default=None)
        ours_at = min((names.index(name) for name in OWN if name in names), default=len(names))
        if torch_at is not None and torch_at < ours_at:
            wrong.append(path.name)
    assert not wrong


@pytest.mark.parametrize("chosen", [None, "active"])
def test_make_targets_export_it(chosen: str | None) -> None:
    command = ["make", "--eval=show: ; @echo $$OMP_WAIT_POLICY $$OPENBLAS_THREAD_TIMEOUT", "show"]
    env = clean(**({"OMP_WAIT_POLICY": chosen} if chosen else {}))
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # a make inside `make test` would name its folder in its output
        env.pop(name, None)
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [chosen or "passive", "4"]


def test_ci_exports_it_before_its_first_command() -> None:
    if not (script := ROOT / ".ci" / "run").exists():
        pytest.skip("a copy without the CI script")
    lines = [line for line in script.read_text().splitlines() if not line.startswith("#")]
    at = next(index for index, line in enumerate(lines) if line.startswith("export OMP_WAIT_POLICY="))
    assert "${OMP_WAIT_POLICY:-passive}" in lines[at]
    assert not any("make" in line or "python" in line for line in lines[:at])
