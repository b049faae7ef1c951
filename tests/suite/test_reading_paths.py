"""Reading paths: the order of the cards' needs, chapters and exercises that exist, and something to do meanwhile."""

import pytest
import yaml
from tiny import card, chapter, make_house

from reprise.suite.catalogue import load_cards
from reprise.suite.chapter import _reading_minutes
from reprise.suite.errors import RepriseError
from reprise.suite.execution import written
from reprise.suite.house import House
from reprise.suite.reading_paths import PLANNED_MINUTES, path_names, read_path, reading_minutes

HOUSE = House.here()
CARDS = load_cards(HOUSE)
EXERCISE = "\n\n```{exercise-start}\n:label: first-why\n```\nWhy?\n```{exercise-end}\n```\n"


@pytest.fixture
def made(tmp_path):
    """Cards first, second (needs first) and third; only first is written, with one exercise."""
    house = make_house(tmp_path, {"first": chapter("first") + EXERCISE})
    for slug, needs in (("second", "[first]"), ("third", "[]")):
        (house.cards / "memory" / f"{slug}.yml").write_text(card(slug).replace("needs: []", f"needs: {needs}"))
    return house


def session(*slugs, **more):
    return {"title": f"On {slugs[0]}", "read": list(slugs), "discuss": "Why?"} | more


INSTEAD = {"use": "first", "to": "read it twice."}


def read(house, *sessions, **more):
    content = {"whom": "You.", "goal": "See.", "prerequisites": "None.", "sessions": list(sessions)} | more
    folder = house.root / "book/paths"
    folder.mkdir(exist_ok=True)
    (folder / "one.yml").write_text(yaml.safe_dump(content))
    return read_path(house, "one", load_cards(house))


def test_a_good_path_is_read_as_it_stands(made):
    path = read(made, session("first", assign=["first-why"]), session("second", "third", instead=INSTEAD))
    assert path.slugs == ["first", "second", "third"]
    assert path.sessions[0].assign == ("first-why",)
    assert path.sessions[1].instead == ("first", "read it twice.")


@pytest.mark.parametrize(
    ("sessions", "complaint"),
    [
        ([session("second", instead=INSTEAD), session("first")], "second comes before first, which it needs: put"),
        ([session("second", "first", instead=INSTEAD)], "second comes before first"),
        (
            [session("third", instead=INSTEAD), session("first", optional=True), session("second", instead=INSTEAD)],
            "second comes before first, which it needs when optional ones are left out",
        ),
        ([session("first"), session("fourth")], "there is no paper fourth"),
        ([session("first"), session("first")], "visited twice"),
        ([session("first", assign=["first-how"])], "assigns 'first-how', which is no exercise"),
        ([session("first"), session("second")], "say what to do `instead`"),
        ([session("third", instead={"use": "second", "to": "wait."})], "'second', which is not written"),
        ([session("first", optional=True)], "the first session cannot be optional"),
        ([session("first", hours=3)], "session 1: 'hours' is no field"),
        ([{"title": "On first", "read": ["first"]}], "session 1: discuss is missing"),
        ([session("first", assign="first-why")], "'assign' should be a list"),
        (["first"], "session 1: write the fields"),
        ([], "'sessions' should be a list that is not empty"),
    ],
)
def test_a_path_that_cannot_be_taught_is_refused_with_the_remedy(made, sessions, complaint):
    with pytest.raises(RepriseError, match=complaint):
        read(made, *sessions)


def test_an_unknown_path_is_answered_with_those_there_are(made):
    read(made, session("first"))
    with pytest.raises(RepriseError, match="no reading path 'two'; there are one"):
        read_path(made, "two", load_cards(made))


@pytest.mark.parametrize("slug", CARDS)
def test_reading_time_is_that_of_the_chapters_own_header(slug):
    told = _reading_minutes(CARDS[slug])
    assert reading_minutes(HOUSE, CARDS[slug]) == (told or PLANNED_MINUTES)


@pytest.mark.parametrize("name", path_names(HOUSE))
def test_a_path_of_the_book_can_be_taught_from_its_first_week_on(name):
    """`read_path` checks order, labels and stand-ins; here, that a class has something of ours to begin with."""
    path = read_path(HOUSE, name, CARDS)
    ready = written(HOUSE)
    assert set(path.sessions[0].read) <= ready.keys()
    assert path.sessions[0].assign
    assert len(path.sessions) >= 4


def test_every_path_stands_on_the_page_of_paths_and_no_other():
    page = (HOUSE.root / "book/paths.md").read_text()
    shown = [line.split()[1] for line in page.splitlines() if line.startswith("```{reading-path}")]
    assert sorted(shown) == path_names(HOUSE)
    assert len(shown) >= 4
