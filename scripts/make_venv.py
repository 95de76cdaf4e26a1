"""Make a virtual environment with any Python >= 3.11, even a Debian one that came without `ensurepip`.

    python3 scripts/make_venv.py .venv

Standard library only: this runs before anything is installed.
"""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path
from urllib.parse import urljoin

OLDEST = (3, 11)
INDEX = "https://pypi.org/simple/pip/"
VERSION = "26.3"
WHEEL = f"pip-{VERSION}-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"


def main(target: Path) -> None:
    """Make `target`, or end with one line that says what is missing."""
    if sys.version_info < OLDEST:
        given = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"cillab needs Python >= 3.11; {sys.executable} is {given}. Choose one: make PYTHON=python3.12 ...")
    bundled = importlib.util.find_spec("ensurepip") is not None
    venv.create(target, with_pip=bundled, clear=True)
    try:
        if bundled:  # a distribution's pip may be years old, and slow
            command = [target / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*command, f"pip=={VERSION}"], check=True)
        else:
            install_pip(target)
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        hint = "" if bundled else " This Python has no ensurepip: apt install python3-venv helps, too."
        sys.exit(f"pip {VERSION} could not be fetched from PyPI ({error}).{hint}")


def install_pip(target: Path) -> None:
    """Fetch the pinned pip wheel, check its digest, and let it install itself."""
    page = fetch(INDEX).decode()
    link = re.search(rf'href="([^"]*{re.escape(WHEEL)})[#"]', page)
    if link is None:
        raise LookupError(f"{INDEX} does not list {WHEEL}")
    wheel = fetch(urljoin(INDEX, link[1]))
    if hashlib.sha256(wheel).hexdigest() != SHA256:
        raise LookupError(f"{WHEEL} does not have the digest that was pinned")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WHEEL
        path.write_bytes(wheel)
        python = target / "bin" / "python"
        subprocess.run([python, f"{path}/pip", "install", "--quiet", "--no-index", str(path)], check=True)


def fetch(url: str) -> bytes:
    """The body of an https answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
