"""The link at the end of a notebook opens the app at that view: the pages take every parameter that it names."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from app.views.head_lab.heads import KINDS
from cillab.figures import groups

HOME = Path(__file__).parents[2]
LINKS = sorted(
    {
        link
        for path in (HOME / "notebooks" / "sources").glob("*.py")
        for link in re.findall(r"http://localhost:8501/[\w?=&%.:+-]+", path.read_text())
    }
)
LABELS = {
    "head": KINDS,
    "drift": {name: group.part.label for name, group in groups("drift").items()},
}  # a URL names what is on screen
pytestmark = [pytest.mark.app, pytest.mark.slow]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.partition("8501/")[2])
def test_the_page_opens_as_the_link_says(link, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_RUNS", str(tmp_path))
    url = urlsplit(link)
    page = AppTest.from_file(str(HOME / "app" / "main.py"), default_timeout=60)
    page.switch_page(f"views{url.path}.py")
    wanted = {name: values[0] for name, values in parse_qs(url.query).items()}
    for key, value in wanted.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    for key, value in wanted.items():
        found = page.session_state[key]
        assert LABELS.get(key, {}).get(found, str(found)) == value, key
