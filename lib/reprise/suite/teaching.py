"""Sphinx extension of the book for teachers: reading paths rendered from their data, and a site without solutions.

Directive: `reading-path NAME`. Without solutions (REPRISE_SOLUTIONS=0, which `make book SOLUTIONS=0` sets) chapters
are read, searched and offered for download as if no solution had been written.
"""

import html
import os
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx

from reprise.suite.catalogue import Card
from reprise.suite.errors import RepriseError
from reprise.suite.exercises import without_solutions
from reprise.suite.pages.page import Page
from reprise.suite.reading_paths import (
    EXERCISE_MINUTES,
    PLANNED_EXERCISES,
    ReadingPath,
    Session,
    labels_of,
    read_path,
    reading_minutes,
)


def setup(app: Sphinx) -> dict:
    app.setup_extension("reprise.suite.pages")
    app.add_config_value("reprise_solutions", os.environ.get("REPRISE_SOLUTIONS", "1") != "0", "env", bool)
    app.add_directive("reading-path", ReadingPathDirective)
    app.connect("config-inited", _without_launch_buttons)
    app.connect("source-read", _read_without_solutions)
    app.connect("build-finished", _offer_without_solutions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- reading paths ----------------------------------------------------------------------------------------------------


class ReadingPathDirective(Page):
    """One reading path: for whom, how long, and a table with what to read, run and assign in each session."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.house = self.catalogue.house
        try:
            path = read_path(self.house, self.arguments[0], self.catalogue.cards)
        except RepriseError as error:
            raise self.error(f"reading-path: {error}") from error
        facts = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in self.facts(path))
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Read", "Run", "Assign"))
        rows = "".join(self.session(number, session) for number, session in enumerate(path.sessions, 1))
        return self.raw(
            f'<dl class="reprise-header">{facts}</dl>'
            f'<table class="reprise-path"><thead><tr>{head}</tr></thead>{rows}</table>'
        )

    def facts(self, path: ReadingPath) -> list[tuple[str, str]]:
        cards = [self.catalogue.cards[slug] for slug in path.slugs]
        written = [card for card in cards if card in self.written()]
        minutes = sum(map(self.minutes, path.sessions))
        core = sum(not session.is_optional for session in path.sessions)
        length = f"{len(path.sessions)} weeks, {_hours(minutes)} of reading and exercises at home"
        if core < len(path.sessions):
            length += f"; {core} weeks without those marked optional"
        facts = [
            ("For", html.escape(path.whom)),
            ("Aim", html.escape(path.goal)),
            ("Before you begin", html.escape(path.prerequisites)),
            ("Length", length),
            ("Written", f"{len(written)} of {len(cards)} chapters; the others say what to do instead"),
        ]
        if written:
            slugs = " ".join(card.slug for card in written)
            facts.append(("Assignments", f"<code>reprise export --nbgrader {slugs}</code>"))
        return facts

    def cards(self, session: Session) -> list[Card]:
        return [self.catalogue.cards[slug] for slug in session.read]

    def minutes(self, session: Session) -> int:
        """Reading and exercises of a session."""
        planned = sum(card not in self.written() for card in self.cards(session)) * PLANNED_EXERCISES
        reading = sum(reading_minutes(self.house, card) for card in self.cards(session))
        return reading + (len(session.assign) + planned) * EXERCISE_MINUTES

    def session(self, number: int, session: Session) -> str:
        optional = ' <span class="reprise-mark">optional</span>' if session.is_optional else ""
        notes = f"<p><b>In class.</b> {html.escape(session.discuss)}</p>"
        if session.instead and any(card not in self.written() for card in self.cards(session)):
            use, to = session.instead
            card = self.catalogue.cards[use]
            notes += (
                f'<p><b>Until then.</b> Use <a href="{self.link(card)}">{html.escape(card.title)}</a>: '
                f"{html.escape(to)}</p>"
            )
        return (
            f'<tbody><tr class="reprise-session"><th colspan="3" scope="rowgroup">Week {number}. '
            f"{html.escape(session.title)}{optional} <small>{_hours(self.minutes(session))} at home</small></th></tr>"
            f"{''.join(self.row(card, session) for card in self.cards(session))}"
            f'<tr class="reprise-session-notes"><td colspan="3">{notes}</td></tr></tbody>'
        )

    def row(self, card: Card, session: Session) -> str:
        title = html.escape(card.title)
        if card not in self.written():
            claims = f"{sum(claim.profile is not None for claim in card.claims)} claims to be weighed are fixed"
            if card.arxiv:
                title = f'<a href="https://arxiv.org/abs/{html.escape(card.arxiv)}">{title}</a>'
                claims = f"the link is the paper; {claims}"
            return (
                f'<tr class="reprise-unwritten"><td>{title}<small>{claims}</small></td>'
                '<td colspan="2"><span class="reprise-mark">not written yet</span></td></tr>'
            )
        labels = labels_of(self.house, card)
        assigned = ", ".join(
            f'<a href="{self.link(card)}#{label}">exercise {labels.index(label) + 1}</a>'
            for label in session.assign
            if label in labels
        )
        return (
            f'<tr><td><a href="{self.link(card)}">{title}</a>'
            f"<small>{reading_minutes(self.house, card)} min</small></td>"
            f'<td data-name="Run">{self.run_words(card)}</td>'
            f'<td data-name="Assign">{assigned or f"your choice of {len(labels)}"}</td></tr>'
        )

    def run_words(self, card: Card) -> str:
        record = self.catalogue.record(card, "quick")
        return f"{record['seconds']:.0f} s, one core" if record else "not run yet"


def _hours(minutes: int) -> str:
    return f"about {round(minutes / 30) / 2:g} h"


# --- the site without solutions ---------------------------------------------------------------------------------------


def _without_launch_buttons(app: Sphinx, config) -> None:
    if not config.reprise_solutions:  # they open the repository's notebooks, solutions included
        config.html_theme_options.pop("launch_buttons", None)


def _cut(text: str) -> str:
    return nbformat.writes(without_solutions(nbformat.reads(text, as_version=4)))


def _read_without_solutions(app: Sphinx, name: str, source: list[str]) -> None:
    if not app.config.reprise_solutions and app.env.doc2path(name).endswith(".ipynb"):
        source[0] = _cut(source[0])


def _offer_without_solutions(app: Sphinx, exception: Exception | None) -> None:
    # Sphinx copies the files themselves for the download button
    if exception is None and not app.config.reprise_solutions:
        for path in (Path(app.outdir) / "_sources").rglob("*.ipynb"):
            path.write_text(_cut(path.read_text(encoding="utf-8")), encoding="utf-8")
