"""The scoreboard: every claim of every written chapter, and how the claims fared."""

import html
from collections import Counter

from docutils import nodes

from reprise.suite import evidence
from reprise.suite.catalogue import PARTS, Card, Claim
from reprise.suite.pages.page import Page, anchor, authors, counted_chips, ordered


class Scoreboard(Page):
    """Every claim of every written chapter: the paper's figure, ours with its interval, the verdict, quick and full."""

    def run(self) -> list[nodes.Node]:
        cards = self.written()
        if not cards:
            return self.raw("<p>No chapter has been written yet.</p>")
        verdicts = Counter(verdict for card in cards for _, verdict in self.catalogue.settled(card))
        parts = {part: title for part, title in PARTS.items() if any(card.part == part for card in cards)}
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "The paper", "Quick run", "Full run"))
        return self.raw(
            '<form class="reprise-filter" aria-label="Filter the claims" hidden>'
            + _choice("part", "Part", {"": "all parts"} | parts)
            + _choice("verdict", "Verdict", {"": "all verdicts"} | {v: f"{v} ({n})" for v, n in ordered(verdicts)})
            + '<output aria-live="polite"></output></form>'
            f'<table class="reprise-scoreboard"><thead><tr>{head}</tr></thead>'
            + "".join(self.chapter(card) for card in cards)
            + "</table>"
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
        verdicts = Counter(verdict for card in cards for _, verdict in self.catalogue.settled(card))
        total = verdicts.total()
        return self.raw(
            f'<p class="reprise-tally">{len(cards)} of {len(self.catalogue.cards)} chapters are written, with {total} '
            f"claim{'' if total == 1 else 's'}. {counted_chips(verdicts)}</p>"
        )
