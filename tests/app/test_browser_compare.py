"""Compare in a real browser: a published curve laid over runs, by its name in the ledger and from a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from tests.app.conftest import make
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with serve({"CILLAB_RUNS": str(make("noise", tmp_path_factory.mktemp("runs")))}) as url:
        yield url


def test_a_published_curve_is_chosen_by_name_and_another_is_sent_as_a_file(page, address, tmp_path) -> None:  # noqa: F811
    mine = tmp_path / "Our run.csv"
    mine.write_text("classes;accuracy\n5;91,5\n10;80,25\n", encoding="utf-8")  # as a German spreadsheet writes it
    ready(page, f"{address}/compare")
    panel = page.locator(".js-plotly-plot").first
    panel.wait_for(timeout=_WAIT_MS)
    names = panel.locator(".legendtext")
    assert not any("published" in name for name in names.all_text_contents())

    page.get_by_role("combobox", name="Published curves").click()
    page.keyboard.type("simplecil/cifar100-inc5")
    page.get_by_role("option", name="simplecil/cifar100-inc5", exact=True).click()
    names.filter(has_text="published: simplecil/cifar100-inc5").wait_for(timeout=_WAIT_MS)
    page.keyboard.press("Escape")

    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(mine)
    names.filter(has_text="published: Our run").wait_for(timeout=_WAIT_MS)
    page.get_by_text("Published: Our run ends at 80.2 %").first.wait_for(timeout=_WAIT_MS)
    assert names.filter(has_text="published: simplecil/cifar100-inc5").count() == 1
    assert panel.locator("g.trace.scatter path.js-line[style*='stroke-dasharray']").count() >= 2
    assert not page.locator("[data-testid=stException]").count()

    sweep = Path(__file__).parents[2] / "docs" / "results" / "field.csv"
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(sweep)
    names.filter(has_text="published: simplecil (field)").wait_for(timeout=_WAIT_MS)
    page.get_by_role("combobox", name="Rows of field").click()
    page.keyboard.type("ranpac")
    page.get_by_role("option", name="ranpac", exact=True).click()
    names.filter(has_text="published: ranpac (field)").wait_for(timeout=_WAIT_MS)
    page.keyboard.press("Escape")
    page.get_by_text("Published: ranpac (field) ends at 76.0 %").first.wait_for(timeout=_WAIT_MS)
    assert names.filter(has_text="published: simplecil (field)").count() == 1

    other = tmp_path / "field.csv"  # the same name, other rows: nothing of the former choice is left
    other.write_text("\n".join(line for n, line in enumerate(sweep.read_text().splitlines()) if n in (0, 2)) + "\n")
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(other)
    names.filter(has_text="published: lda (field)").wait_for(timeout=_WAIT_MS)
    assert not names.filter(has_text="published: ranpac (field)").count()
    assert not page.locator("[data-testid=stException]").count()

    broken = tmp_path / "notes.csv"
    broken.write_text("a table\nof words\n", encoding="utf-8")
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(broken)
    page.get_by_text("These curves cannot be drawn").wait_for(timeout=_WAIT_MS)
    assert page.get_by_text("notes.csv: a curve is a CSV file of two columns").count()
    assert str(tmp_path) not in page.content()
