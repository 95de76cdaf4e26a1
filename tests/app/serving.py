"""The app on a free port of this machine, for tests and benchmarks."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")  # of the machine
_OWN = "chromium-*/chrome-*/*"  # what `playwright install chromium` brings


def _chromium() -> str | None:
    """A Chromium of this machine, else the one that playwright installed, else None."""
    for name in _PLACES:
        if found := shutil.which(name):
            return found
    caches = (os.environ.get("PLAYWRIGHT_BROWSERS_PATH"), "~/.cache/ms-playwright", "~/Library/Caches/ms-playwright")
    for cache in caches:
        own = sorted(Path(cache).expanduser().glob(_OWN)) if cache else []
        if found := [path for path in own if path.name in ("chrome", "chrome.exe")]:
            return str(found[-1])
    return None


CHROMIUM = _chromium()
MISSING = "no Chromium on this machine. Install it with `apt install chromium` or `playwright install chromium`"
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that is closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def serve(environment: Mapping[str, str], pids: list[int] | None = None) -> Iterator[str]:
    """Start a server, yield its address, end that very process. Its pid is appended to `pids`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless=true"]
    server = subprocess.Popen(
        [*command, f"--server.port={port}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    prefix = environment.get("STREAMLIT_SERVER_BASE_URL_PATH", "")
    url = f"http://localhost:{port}/{prefix}".rstrip("/")
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).read()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.25)
        if pids is not None:
            pids.append(server.pid)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:  # it waits for open connections, on a busy machine for long
            server.kill()
            server.wait(20)


if __name__ == "__main__":  # `make test-browser` asks first: skipped tests would look like passed ones
    try:
        import playwright  # noqa: F401
    except ImportError:
        sys.exit("playwright is not installed. Install it with `pip install 'cillab[browser]'`")
    if CHROMIUM is None:
        sys.exit(MISSING)
