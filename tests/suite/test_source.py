"""`show` prints what is tested: the library's own source, with a link to its file."""

import functools
import html
import inspect
import re
from dataclasses import dataclass

import pytest

from reprise.suite import evidence, house, plots, source
from reprise.suite.source import show


def text_of(page: str) -> str:
    """The page without its style and tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))


def bundle(*objects) -> dict[str, str]:
    return show(*objects)._repr_mimebundle_()


def test_source_is_printed_whole_with_its_docstring():
    page, plain = (bundle(evidence.interval)[kind] for kind in ("text/html", "text/plain"))
    code = inspect.getsource(evidence.interval)
    assert '"""' in code
    assert code.strip() in text_of(page)
    assert code.strip() in plain


def test_classes_and_methods_and_several_objects_are_printed_in_order():
    text = text_of(bundle(plots.Picture, plots.picture, evidence.verdict)["text/html"])
    assert text.index("class Picture") < text.index("def picture(") < text.index("def verdict(")
    assert "def _repr_mimebundle_" in str(show(plots.Picture._repr_mimebundle_))
    assert str(show(plots.Picture._repr_mimebundle_)).splitlines()[1].startswith("def ")


def test_file_is_named_once_for_neighbors_and_linked_at_the_repository(monkeypatch):
    monkeypatch.setattr(source, "repository_url", lambda: "https://example.org/owner/name")
    page = bundle(plots.figure, plots.band, evidence.interval)["text/html"]
    assert re.findall(r'href="([^"]+)"', page) == [
        "https://example.org/owner/name/blob/main/lib/reprise/suite/plots.py",
        "https://example.org/owner/name/blob/main/lib/reprise/suite/evidence.py",
    ]


def test_file_is_named_without_a_link_where_no_address_is_known(monkeypatch):
    monkeypatch.setattr(source, "repository_url", lambda: "")
    page = bundle(plots.figure)["text/html"]
    assert "href" not in page
    assert "lib/reprise/suite/plots.py" in page


def test_the_address_is_that_of_the_checkout_or_of_the_package(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\n[project.urls]\nRepository = "https://example.org/one/name/"\n'
    )
    assert house.repository_url(tmp_path) == "https://example.org/one/name"

    class Metadata:
        def get_all(self, name):
            assert name == "Project-URL"
            return ["Documentation, https://example.org/docs", "Repository, https://example.org/two/name/"]

    monkeypatch.setattr(house.metadata, "metadata", lambda name: Metadata())
    assert house.repository_url(tmp_path / "nowhere") == "https://example.org/two/name"


def test_code_is_highlighted_by_classes_and_escaped():
    def compare(a, b):
        return a < b and "<b>"

    page = bundle(compare)["text/html"]
    assert '<span class="k">return</span>' in page
    assert "<b>" not in page
    assert 'a < b and "<b>"' in text_of(page)


def test_decorated_functions_show_what_was_written():
    def loud(function):
        @functools.wraps(function)
        def wrapper(*arguments):
            return function(*arguments)

        return wrapper

    @loud
    def quiet():
        return "quiet"

    assert 'return "quiet"' in str(show(quiet))


@dataclass(frozen=True)
class Settings:
    steps: int = 3


@pytest.mark.parametrize("thing", [3, len, Settings(), "text"])
def test_things_without_source_are_refused_in_a_sentence(thing):
    with pytest.raises(ValueError, match="source of functions and classes"):
        show(thing)


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        show()
