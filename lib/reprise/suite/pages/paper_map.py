"""The map: every paper in its part, below the paper that it builds on; written or not, with its verdicts.

The page is a nested list, which every browser and screen reader can read; `_static/map.js` draws the lines over it.
networkx holds the graph. `map` is the whole, `map` with `:compact:` one row of dots for each part.
"""

import html
from collections import Counter

import networkx as nx
from docutils import nodes
from docutils.parsers.rst import directives

from reprise.suite import evidence
from reprise.suite.catalogue import PARTS, Card
from reprise.suite.errors import RepriseError
from reprise.suite.pages.page import Page, authors, counted_chips, ordered

HINT = (
    "Point at a paper to see where it leads. By keyboard: <kbd>↑</kbd> <kbd>↓</kbd> walk through the map, "
    "<kbd>←</kbd> goes to what a paper builds on, <kbd>→</kbd> to what builds on it, <kbd>Enter</kbd> opens it."
)


def graph(cards: dict[str, Card]) -> nx.DiGraph:
    """Slugs, with an edge from each paper to every paper that needs it.

    Raises:
        RepriseError: Papers need each other in a circle.
    """
    found = nx.DiGraph()
    found.add_nodes_from(cards)
    found.add_edges_from((needed, card.slug) for card in cards.values() for needed in card.needs)
    if not nx.is_directed_acyclic_graph(found):
        circle = [edge[0] for edge in nx.find_cycle(found)]
        raise RepriseError(
            f"These papers need each other in a circle: {' → '.join([*circle, circle[0]])}; drop one `needs`."
        )
    return found


def forest(cards: dict[str, Card], needs: nx.DiGraph) -> dict[str, list[str]]:
    """What stands below each part, and below each paper: those of the same part that build on it.

    A paper hangs from the first paper of its own part that it needs. What most others build on comes first.
    """
    below = {name: [] for name in [*PARTS, *cards]}
    for slug in sorted(cards, key=lambda slug: -len(nx.descendants(needs, slug))):
        card = cards[slug]
        same_part = [needed for needed in card.needs if cards[needed].part == card.part]
        below[same_part[0] if same_part else card.part].append(slug)
    return below


def short_title(title: str) -> str:
    """A title up to its colon or question mark: `Grokking Tickets: Lottery Tickets …` -> `Grokking Tickets`."""
    head = title.split(": ")[0].strip()
    return head.split("? ")[0] + "?" if "? " in head else head


class Map(Page):
    """The whole map, or its compact form."""

    option_spec = {"compact": directives.flag}

    def run(self) -> list[nodes.Node]:
        self.cards = self.catalogue.cards
        self.done = {card.slug for card in self.written()}
        if "compact" in self.options:
            return self.raw(f'<ul class="reprise-map-small">{"".join(map(self.dots, PARTS))}</ul>')
        self.needs = graph(self.cards)
        self.below = forest(self.cards, self.needs)
        return self.raw(
            f'<p class="reprise-map-key">{_dot(True)} written, with its verdicts {_dot(False)} not written yet</p>'
            '<div class="reprise-map"><svg aria-hidden="true" focusable="false"></svg>'
            f'<div class="reprise-map-parts">{"".join(self.part(part) for part in PARTS if self.below[part])}</div>'
            f'<div class="reprise-map-card" aria-hidden="true" hidden><p>{HINT}</p></div></div>'
            f'<script src="{self.top()}_static/map.js" defer></script>'
        )

    def part_page(self, part: str) -> str:
        return self.page(f"book/{part}/index")

    def dots(self, part: str) -> str:
        mine = [card for card in self.cards.values() if card.part == part]
        count = sum(card.slug in self.done for card in mine)
        dots = "".join(_dot(written) for written in sorted((card.slug in self.done for card in mine), reverse=True))
        return (
            f'<li><a href="{self.part_page(part)}">{html.escape(PARTS[part])}</a> '
            f'<span aria-hidden="true">{dots}</span>'
            f'<span class="reprise-unseen">{count} of {len(mine)} chapters written</span></li>'
        )

    def part(self, part: str) -> str:
        return (
            f'<section data-part="{part}"><h2><a href="{self.part_page(part)}">{html.escape(PARTS[part])}</a></h2>'
            f"{self.papers(part)}</section>"
        )

    def papers(self, parent: str) -> str:
        return f"<ul>{''.join(map(self.paper, self.below[parent]))}</ul>" if self.below[parent] else ""

    def paper(self, slug: str) -> str:
        card, written = self.cards[slug], slug in self.done
        verdicts = self.catalogue.verdicts([card] if written else [])
        target = self.link(card) if written else f"{self.part_page(card.part)}#{slug}"
        signs = " ".join(
            f'<span class="reprise-{word.replace(" ", "-")}">{evidence.SIGNS[word]}&#8239;{count}</span>'
            for word, count in ordered(verdicts)
        )
        if signs:
            signs = f' <span class="reprise-map-signs" aria-hidden="true">{signs}</span>'
        return (
            f'<li data-slug="{slug}" data-needs="{" ".join(card.needs)}" '
            f'data-before="{" ".join(sorted(nx.ancestors(self.needs, slug)))}" '
            f'data-after="{" ".join(sorted(nx.descendants(self.needs, slug)))}">{_dot(written)}'
            f'<a href="{target}" title="{html.escape(card.title)}" aria-describedby="map-{slug}">'
            f"{html.escape(short_title(card.title))}</a>{signs}"
            f'<span class="reprise-unseen" id="map-{slug}">{self.words(card, verdicts)}</span>{self.papers(slug)}</li>'
        )

    def words(self, card: Card, verdicts: Counter) -> str:
        """What the lines, dots and signs say, in words."""
        says = [f"{authors(card)} ({card.year}).", counted_chips(verdicts) or "Not written yet."]
        for name, slugs in (("Builds on", card.needs), ("Leads to", self.needs.successors(card.slug))):
            titles = [html.escape(short_title(self.cards[slug].title)) for slug in slugs]
            if titles:
                says.append(f"{name}: {'; '.join(titles)}.")
        return " ".join(f"<span>{part}</span>" for part in says)


def _dot(written: bool) -> str:
    return f'<i class="reprise-dot{" is-written" if written else ""}" aria-hidden="true"></i>'
