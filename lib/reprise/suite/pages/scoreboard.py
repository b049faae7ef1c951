"""The scoreboard: every claim of every written chapter, and how the claims fared."""

import html
from urllib.parse import urlencode

from docutils import nodes

from reprise.suite import evidence
from reprise.suite.catalogue import PARTS, Card, Claim
from reprise.suite.pages.claims import COLUMNS
from reprise.suite.pages.page import Page, anchor, authors, ordered


class Scoreboard(Page):
    """Every claim of every written chapter: the paper's figure, ours with its interval, the verdict, quick and full."""

    def run(self) -> list[nodes.Node]:
        cards = self.written()
        if not cards:
            return self.raw("<p>No chapter has been written yet.</p>")
        parts = {part: title for part, title in PARTS.items() if any(card.part == part for card in cards)}
        counted = ordered(self.catalogue.verdicts(cards))
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "The paper", "Quick run", "Full run"))
        return self.raw(
            '<form class="reprise-filter" id="claims" aria-label="Filter the claims" hidden>'
            + _choice("part", "Part", {"": "all parts"} | parts)
            + _choice("verdict", "Verdict", {"": "all verdicts"} | {v: f"{v} ({n})" for v, n in counted})
            + '<output aria-live="polite"></output></form>'
            + self.downloads()
            + f'<table class="reprise-scoreboard"><thead><tr>{head}</tr></thead>'
            + "".join(self.chapter(card) for card in cards)
            + "</table>"
        )

    def downloads(self) -> str:
        top = self.top()
        meanings = "".join(f"<dt>{name}</dt><dd>{html.escape(meaning)}</dd>" for name, meaning in COLUMNS.items())
        return (
            f'<div class="reprise-downloads"><p>The same as data, every effect of every seed included: '
            f'<a href="{top}claims.csv" download>CSV</a>, <a href="{top}claims.json" download>JSON</a>.</p>'
            f"<details><summary>What the columns mean</summary><dl>{meanings}</dl></details></div>"
        )

    def chapter(self, card: Card) -> str:
        quick, full = self.catalogue.record(card, "quick"), self.catalogue.record(card, "full")
        runs = "; ".join(_run_words(name, record) for name, record in (("quick", quick), ("full", full)) if record)
        rows = "".join(
            f'<tr id="{anchor(card, claim)}" data-verdict="{verdict}"><th scope="row">{html.escape(claim.says)} '
            f'<a class="reprise-anchor" href="#{anchor(card, claim)}" aria-label="Link to this claim">#</a></th>'
            f'<td data-name="The paper">{html.escape(claim.paper)}</td>{_both_cells(claim, quick, full)}</tr>'
            for claim, verdict in self.catalogue.settled(card)
        )
        return (
            f'<tbody data-part="{card.part}"><tr class="reprise-chapter">'
            f'<th colspan="4" scope="rowgroup" id="{card.slug}">'
            f'<a href="{self.link(card)}">{html.escape(card.title)}</a> <span>{authors(card)} ({card.year})'
            f"{f' · {html.escape(runs)}' if runs else ''}</span></th></tr>{rows}</tbody>"
        )


def _both_cells(claim: Claim, quick: dict | None, full: dict | None) -> str:
    if claim.out_of_reach:
        return (
            f'<td colspan="2" data-name="Verdict">{evidence.chip("out of reach")}'
            f"<small>{html.escape(claim.out_of_reach)}</small></td>"
        )
    return _cell(claim, "Quick run", quick, "quick") + _cell(claim, "Full run", full, "full")


def _cell(claim: Claim, name: str, record: dict | None, profile: str) -> str:
    entry = evidence.finding_of(claim, record)
    if entry:
        mean, low, high, margin = (evidence.amount(entry[key]) for key in ("mean", "low", "high", "margin"))
        words = (
            f"{evidence.chip(entry['verdict'])}<span><strong>{mean}</strong> "
            f'<span class="reprise-interval">[{low}, {high}]</span></span>'
            f"<small>{html.escape(claim.unit)}; margin {margin}; {len(entry['effects'])} seeds</small>"
        )
    elif claim.profile == profile:
        words = evidence.chip("not yet run")
    else:
        words = f"<small>{'decided by the full run' if profile == 'quick' else 'not run'}</small>"
    return f'<td data-name="{name}">{words}</td>'


def _run_words(name: str, record: dict) -> str:
    seconds = record.get("seconds")
    time = "" if seconds is None else f", {seconds:.0f} s" if seconds < 120 else f", {seconds / 60:.0f} min"
    return f"{name}: {record['device']}{time}, first seed {record['first_seed']}"


def _choice(name: str, label: str, options: dict[str, str]) -> str:
    listed = "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in options.items())
    return f'<label>{label} <select name="{name}">{listed}</select></label>'


class Tally(Page):
    """One paragraph: how many chapters are written and how their claims fared."""

    def run(self) -> list[nodes.Node]:
        cards = self.written()
        verdicts = self.catalogue.verdicts(cards)
        total = verdicts.total()
        return self.raw(
            f'<p class="reprise-tally">{len(cards)} of {len(self.catalogue.cards)} chapters are written, with {total} '
            f"claim{'' if total == 1 else 's'}. {' '.join(self.chip(*found) for found in ordered(verdicts))}</p>"
        )

    def chip(self, word: str, count: int) -> str:
        """A counted chip that leads to those claims."""
        kind = f"reprise-verdict reprise-{word.replace(' ', '-')}"
        board = self.page("book/scoreboard")
        return f'<a class="{kind}" href="{board}{_query(verdict=word)}">{evidence.SIGNS[word]} {count} {word}</a>'


class Summary(Page):
    """One row for the book and one for each part: how many claims met which verdict, as counts and as a bar."""

    def run(self) -> list[nodes.Node]:
        cards = self.written()
        if not cards:
            return []
        parts = {part: [card for card in cards if card.part == part] for part in PARTS}
        rows = [self.row("", "All parts", cards)]
        rows += [self.row(part, PARTS[part], mine) for part, mine in parts.items() if mine]
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Part", "Chapters", "Claims", "Verdicts"))
        return self.raw(
            f'<table class="reprise-summary"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        )

    def row(self, part: str, title: str, cards: list[Card]) -> str:
        verdicts = self.catalogue.verdicts(cards)
        bar = "".join(
            f'<a class="reprise-verdict reprise-{word.replace(" ", "-")}" style="flex-grow: {count}" '
            f'href="{_query(part=part, verdict=word)}" title="{count} {word}">{evidence.SIGNS[word]} {count}'
            f'<span class="reprise-unseen"> {word}</span></a>'
            for word, count in ordered(verdicts)
        )
        return (
            f'<tr><th scope="row">{html.escape(title)}</th><td data-name="Chapters">{len(cards)}</td>'
            f'<td data-name="Claims">{verdicts.total()}</td><td><span class="reprise-bar">{bar}</span></td></tr>'
        )


def _query(**choices: str) -> str:
    """The scoreboard's address narrowed to some claims; its script reads it."""
    return html.escape(f"?{urlencode({name: value for name, value in choices.items() if value})}#claims")
