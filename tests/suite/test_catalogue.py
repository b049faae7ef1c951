"""Cards: every one is valid, and a malformed one is told where and how."""

import pytest

from reprise.suite.catalogue import PARTS, find_card, load_cards, read_card
from reprise.suite.errors import RepriseError

GOOD = """\
slug: tiny-paper
part: memory
title: "Tiny"
authors: ["A"]
year: 2020
venue: "V"
arxiv: ""
code: null
needs: []
claims:
  - id: it-holds
    says: "It holds."
    paper: "not known"
    where: "abstract"
    effect: "a number"
    unit: "points"
    margin: 1
    profile: quick
  - id: too-big
    says: "It holds everywhere."
    paper: "not known"
    where: "abstract"
    out_of_reach: "the world is large"
"""


@pytest.fixture
def write(tmp_path):
    def _write(text, name="tiny_paper.yml"):
        path = tmp_path / "memory" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return _write


def test_the_catalogue_holds_85_papers_in_15_parts_with_720_claims():
    cards = load_cards()
    assert len(cards) >= 85
    assert {card.part for card in cards.values()} == set(PARTS)
    assert len(PARTS) == 15
    assert sum(len(card.claims) for card in cards.values()) >= 720


def test_a_good_card_is_read_as_written(write):
    card = read_card(write(GOOD))
    assert (card.slug, card.part, card.year, card.code) == ("tiny-paper", "memory", 2020, "")
    assert card.claims[0].margin == 1.0
    assert card.claims[1].profile is None
    assert card.claims[1].out_of_reach == "the world is large"


def test_decidable_quick_claims_are_weighed_in_full_runs_too(write):
    quick, out = read_card(write(GOOD)).claims
    assert quick.is_decidable_at("quick")
    assert quick.is_decidable_at("full")
    assert not out.is_decidable_at("full")


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("year: 2020", "year: soon", 5, "year"),
        ("margin: 1", "margin: -1", 17, "margin"),
        ("margin: 1", "margin: true", 17, "margin"),
        ("profile: quick", "profile: fast", 18, "profile"),
        ("part: memory", "part: brain", 2, "part"),
        ("slug: tiny-paper", "slug: Tiny_Paper", 1, "slug"),
        ("slug: tiny-paper", "slug: other-paper", 1, "slug"),
        ('    unit: "points"\n', "", 11, "unit"),
        ("id: too-big", "id: it-holds", 19, "id"),
        ('says: "It holds."', 'says: ""', 12, "says"),
        ("needs: []", "needs: []\ncolour: red", 10, "colour"),
        ('authors: ["A"]', "authors: []", 4, "authors"),
        ("year: 2020", "year: 2020\nyear: 2021", 6, "year"),
        ("margin: 1", "margin: 1\n    registered: old", 11, "changed"),
    ],
)
def test_a_malformed_card_is_named_with_file_line_and_field(write, old, new, line, field):
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(RepriseError) as caught:
        read_card(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert repr(field) in str(caught.value)


def test_broken_yaml_is_named_with_its_line(write):
    path = write(GOOD.replace('title: "Tiny"', 'title: "Tiny'))
    with pytest.raises(RepriseError, match=r"tiny_paper\.yml:\d+: not valid YAML"):
        read_card(path)


def test_an_unknown_slug_gets_the_nearest_one():
    with pytest.raises(RepriseError, match="did you mean 'lottery-ticket'"):
        find_card("lotery-tiket")


def test_every_needed_paper_exists_and_nothing_needs_itself():
    cards = load_cards()
    for card in cards.values():
        assert card.slug not in card.needs
        assert all(needed in cards for needed in card.needs)
