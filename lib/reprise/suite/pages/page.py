"""What every page of the catalogue shares: cards and records, links between pages, counted verdicts."""

import html
from collections import Counter
from collections.abc import Iterable

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from reprise.suite import evidence
from reprise.suite.catalogue import Card, Claim, load_cards
from reprise.suite.house import House


class Catalogue:
    """Cards and records of one build, each file read once."""

    def __init__(self, house: House):
        self.house = house
        self.cards = load_cards(house)
        self._records: dict[tuple[str, str], dict | None] = {}

    def record(self, card: Card, profile: str) -> dict | None:
        key = (card.slug, profile)
        if key not in self._records:
            self._records[key] = evidence.read_record(card.slug, profile, self.house, part=card.part)
        return self._records[key]

    def settled(self, card: Card) -> list[tuple[Claim, str]]:
        """Each claim with the verdict that counts: at the profile that its card registered."""
        quick, full = self.record(card, "quick"), self.record(card, "full")
        return [(claim, evidence.settled(claim, quick, full)) for claim in card.claims]

    def verdicts(self, cards: Iterable[Card]) -> Counter:
        """How many claims of these papers met which verdict."""
        return Counter(verdict for card in cards for _, verdict in self.settled(card))

    def card_of(self, name: str) -> Card | None:
        """The card whose chapter is the page of that name."""
        return next((card for card in self.cards.values() if docname(card) == name), None)


def way_to_top(name: str) -> str:
    """The way from the page of that name to the top of the site, "" or "../"…"""
    return "../" * name.count("/")


class Page(SphinxDirective):
    """A directive whose page is read again at every build, because records change without it."""

    @property
    def catalogue(self) -> Catalogue:
        self.env.note_reread()
        return self.env.app.reprise_catalogue

    def written(self) -> list[Card]:
        """Cards whose chapter is a page of this site, in the book's order."""
        return [card for card in self.catalogue.cards.values() if docname(card) in self.env.found_docs]

    def top(self) -> str:
        """The way from this page to the top of the site, "" or "../"…"""
        return way_to_top(self.env.docname)

    def page(self, docname: str) -> str:
        """The way from this page to another."""
        return self.env.app.builder.get_relative_uri(self.env.docname, docname)

    def link(self, card: Card) -> str:
        return self.page(docname(card))

    def raw(self, text: str) -> list[nodes.Node]:
        return [nodes.raw("", text, format="html")]


def docname(card: Card) -> str:
    return f"notebooks/{card.part}/{card.slug}"


def anchor(card: Card, claim: Claim) -> str:
    """The permanent anchor of a claim on the scoreboard."""
    return f"{card.slug}--{claim.id}"


def authors(card: Card) -> str:
    names = [name for name in card.authors if name != "et al."]
    if len(names) > 2 or len(names) < len(card.authors):
        return f"{html.escape(names[0])} et al."
    return html.escape(" and ".join(names))


def ordered(verdicts: Counter) -> list[tuple[str, int]]:
    return [(word, verdicts[word]) for word in evidence.VERDICTS if verdicts[word]]


def counted_chips(verdicts: Counter) -> str:
    return " ".join(evidence.chip(word).replace(f" {word}<", f" {count} {word}<") for word, count in ordered(verdicts))
