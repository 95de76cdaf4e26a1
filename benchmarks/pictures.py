"""Plots of benchmarks as pictures for the docs."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python benchmarks/...` knows its own folder alone

from tests.app.serving import CHROMIUM

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright


def save_png(figure: go.Figure, path: Path, width: int, height: int) -> None:
    """Draw a figure in Chromium, without a network, and keep what it shows."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "plot.html"
        figure.write_html(page_file, include_plotlyjs=True)
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(page_file.as_uri())
        page.wait_for_selector(".main-svg")
        page.screenshot(path=str(path))
        browser.close()
