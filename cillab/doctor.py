"""Is everything there? One line per question, quickly. Also: where the app is."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

import cillab
from cillab.core import threads
from cillab.core.errors import CillabError
from cillab.core.places import cache_dir, data_dir
from cillab.demo import demo_runs
from cillab.protocol.named import find, homes, named_sets

_PACKAGES = ("torch", "timm", "open_clip_torch", "numpy", "safetensors", "plotly", "streamlit", "duckdb")
_PATIENCE_S = 2.0  # for a network that does not answer


def examine() -> Iterator[str]:
    """One line per check: what, what was found, how long it took."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("cillab", lambda: f"{cillab.__version__} at {Path(cillab.__file__).parent}"),
        ("python", lambda: f"{platform.python_version()} on {platform.platform(terse=True)}, {os.cpu_count()} cores"),
        ("packages", _packages),
        ("threads", threads.in_force),
        ("torch", _torch),
        ("cache", lambda: _writable(cache_dir())),
        ("runs", lambda: _writable(Path("runs"))),
        ("bundled", _bundled),
        ("data", _data),
        ("plug-ins", _plugins),
        ("demo runs", lambda: ", ".join(demo_runs()) or "none recorded"),
        ("app", lambda: str(find_app() or "not found; run from a checkout")),
        ("hub", _hub),
    )
    for name, check in checks:
        began = time.perf_counter()
        try:
            found = check()
        except Exception as error:
            found = f"PROBLEM {type(error).__name__}: {' '.join(str(error).split())}"
        yield f"{name:<10} {found}  ({time.perf_counter() - began:.2f} s)"


def find_app() -> Path | None:
    """The entry file of the Streamlit app: beside the package in a checkout, or under the current folder."""
    for root in (Path(cillab.__file__).parent.parent, Path.cwd()):
        if (root / "app" / "main.py").is_file():
            return root / "app" / "main.py"
    return None


def serve_app(port: int, browser: bool) -> int:
    """Run Streamlit on this machine's own address until it is stopped; returns its exit code.

    Raises:
        CillabError: the app or Streamlit is not there.
    """
    entry = find_app()
    if entry is None:
        raise CillabError("app/main.py was not found: run this in a checkout of cillab.")
    if find_spec("streamlit") is None:
        raise CillabError("The app needs Streamlit: pip install 'cillab[app]'.")
    command = [sys.executable, "-m", "streamlit", "run", str(entry)]
    options = {
        "server.address": "localhost",
        "server.port": port,
        "server.headless": str(not browser).lower(),
        "browser.gatherUsageStats": "false",
    }
    command += [f"--{name}={value}" for name, value in options.items()]
    try:
        return subprocess.call(command)
    except KeyboardInterrupt:
        return 0  # Ctrl-C is how one leaves the app


def _packages() -> str:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} MISSING")
    return ", ".join(found)


def _torch() -> str:
    import torch  # noqa: PLC0415 - seconds, and only this check needs it

    from cillab.backbones.computing import resolve_device, resolve_precision  # noqa: PLC0415

    device = resolve_device("auto")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"device {device}{name}, precision {resolve_precision('auto', device)}, {torch.get_num_threads()} threads"


def _writable(folder: Path) -> str:
    """Try it where it is, or where it would be made."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    with tempfile.NamedTemporaryFile(dir=place):
        pass
    return f"{folder} can be written, {shutil.disk_usage(place).free / 1e9:.1f} GB free"


def _bundled() -> str:
    from cillab.backbones import describe  # noqa: PLC0415

    missing = [name for name in ("bundled:vit", "bundled:clip") if describe(name).needs_download]
    return f"weights of {', '.join(missing)} are not here" if missing else "bundled:vit, bundled:clip"


def _data() -> str:
    here = [name for name, one in named_sets().items() if find(one, homes(one))]
    where = data_dir() or "CILLAB_DATA is not set"
    return f"{', '.join(here) or 'none'} of {len(named_sets())} named sets ({where})"


def _plugins() -> str:
    """Entry points of learners, by name only: importing them is `cillab list learners`' work."""
    found = [f"{point.name} ({point.value})" for point in entry_points(group="cillab.learners")]
    return ", ".join(found) or "none installed (docs/build_a_learner.md)"


def _hub() -> str:
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=_PATIENCE_S):
            return "huggingface.co can be reached"
    except OSError:
        return "huggingface.co cannot be reached: use --weights FILE, folder:DIR or parquet:DIR"
