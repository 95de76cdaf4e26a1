"""What all tests share: where real data are, and which tests this machine can run."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

import cillab  # noqa: F401 - before any test loads torch: it settles how threads wait

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Nothing is downloaded by accident: a test that wants the hub to be there, or not, says so itself.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell's job in the background ignores Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that need what is not here a reason to be skipped."""
    missing = {}
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            missing["gpu"] = "no CUDA device"
    if find_spec("streamlit") is None:
        missing["app"] = missing["browser"] = "streamlit is not installed: pip install 'cillab[app]'"
    elif find_spec("playwright") is None:
        missing["browser"] = "playwright is not installed: pip install 'cillab[browser]'"
    elif not any(which(name) for name in BROWSERS) and not (Path.home() / ".cache" / "ms-playwright").is_dir():
        missing["browser"] = f"none of {', '.join(BROWSERS)} is installed"
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights: `CILLAB_TEST_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("CILLAB_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; CILLAB_TEST_DATA may name another folder")
    return folder
