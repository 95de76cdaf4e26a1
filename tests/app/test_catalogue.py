"""The form's source: asked once, kept on disk, and the last answer serves while a new one is worked out."""

import pytest

pytest.importorskip("streamlit")
from app.views.train import catalogue as module
from cillab.core.errors import CillabError
from cillab.lab import offer
from cillab.lab.offer import FORMAT

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of some version that counts how often it was asked."""

    class Library:
        version, asked, broken, form = "a", 0, False, FORMAT

        def ask(self, *words: str, limit_s: float) -> dict:
            assert words == ("list", "schema")
            self.asked += 1
            if self.broken:
                raise CillabError("it does not import")
            return {"format_version": self.form, "version": self.version}

    found = Library()
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ask", found.ask)
    monkeypatch.setattr(offer, "fingerprint", lambda: found.version)
    for cached in (module._ask, module._refresh):
        cached.clear()
    return found


def test_it_is_asked_once(library) -> None:
    assert [module.catalogue()["version"] for _ in range(3)] == ["a"] * 3
    module._ask.clear()  # another server
    assert module.catalogue()["version"] == "a" and library.asked == 1


def test_after_a_change_the_last_answer_serves_until_the_new_one_is_there(library) -> None:
    module.catalogue()
    library.version = "b"
    assert module.catalogue()["version"] == "a"
    module._refresh("b").join(10)
    assert module.catalogue()["version"] == "b" and library.asked == 2


def test_an_answer_of_another_form_never_serves(library) -> None:
    """An older library's catalogue lacks what today's form is drawn from: the Train page died of it."""
    library.form = "0.9"
    module.catalogue()
    library.form, library.version = FORMAT, "b"
    assert module.catalogue()["version"] == "b"


def test_a_broken_library_is_one_line(library) -> None:
    library.broken = True
    assert module.catalogue() == "it does not import"


def test_a_damaged_file_is_asked_for_again(library) -> None:
    module.catalogue()
    offer.place().write_text("{")
    module._ask.clear()
    assert module.catalogue()["version"] == "a" and library.asked == 2


@pytest.mark.parametrize(
    ("code", "out", "errors", "says"),
    [
        (2, "", "noise\ncillab: No spec file 'x'.\n", "No spec file 'x'."),
        (1, "", "", "without a word"),
        (0, "", "", "no answer"),
    ],
)
def test_a_refusal_is_the_librarys_own_line(code, out, errors, says) -> None:
    with pytest.raises(CillabError, match=says):
        module.answer(code, out, errors)
    assert module.answer(0, 'a warning\n{"x": 1}\n', "") == {"x": 1}
