"""Sphinx extension of the book: pages that read cards and records when the site is built.

Directives: `scoreboard`, `summary`, `map`, `part-list PART`, `tally`, `front-explorer SLUG`, `shell` (a code
block in which ADDRESS stands for the repository's), `citation`; role: `verdict`. Every chapter gets a section that
says how to cite it, every page what a link to it shows elsewhere. The repository's address is read from
`pyproject.toml` alone.
"""

import html
import json
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.mathjax import html_visit_displaymath, html_visit_math
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from reprise.suite import evidence, frames
from reprise.suite.catalogue import PARTS, Card
from reprise.suite.house import House, repository_url
from reprise.suite.pages import cite, claims, light, social
from reprise.suite.pages.cite import Citation
from reprise.suite.pages.page import Catalogue, Page, authors, counted_chips
from reprise.suite.pages.paper_map import Map
from reprise.suite.pages.scoreboard import Scoreboard, Summary, Tally

LOG = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    for name, directive in {
        "scoreboard": Scoreboard,
        "summary": Summary,
        "part-list": PartList,
        "tally": Tally,
        "map": Map,
        "front-explorer": FrontExplorer,
        "shell": Shell,
        "citation": Citation,
    }.items():
        app.add_directive(name, directive)
    app.add_role("verdict", VerdictRole())
    _without_thebe(app)
    app.connect("config-inited", _set_address)
    app.connect("builder-inited", _load_catalogue)
    app.connect("doctree-read", cite.add_section, priority=400)  # before the table of contents is read off
    app.connect("env-get-updated", _number_exercises_by_page, priority=900)  # after they were numbered
    app.connect("env-get-updated", _write_all_in_a_new_order)
    app.connect("html-page-context", social.add_tags)
    app.add_html_math_renderer("katex", (html_visit_math, None), (html_visit_displaymath, None))
    app.connect("doctree-resolved", light.plain_explorers)
    app.connect("doctree-resolved", light.figures_as_files)
    app.connect("html-page-context", light.carry_what_is_needed, priority=900)  # after others added theirs
    app.connect("build-finished", _write_sitemap)
    app.connect("build-finished", claims.write)
    return {"env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}


def _without_thebe(app: Sphinx) -> None:
    # jupyter-book always loads sphinx-thebe, which writes the address of a script elsewhere into every page, and when
    # two handlers of it run, a script error with it
    for listeners in app.events.listeners.values():
        listeners[:] = [
            listener
            for listener in listeners
            if not (listener.handler.__module__ == "sphinx_thebe" and "static" not in listener.handler.__name__)
        ]


def site_address(repository: str) -> str:
    """Where the repository's site is published: its owner's GitHub Pages; "" for other hosts."""
    parts = urlsplit(repository)
    if parts.hostname != "github.com":
        return ""
    owner, name = parts.path.strip("/").split("/")
    return f"https://{owner}.github.io/{name}/"


def _set_address(app: Sphinx, config) -> None:
    address = repository_url(Path(app.confdir))
    options = config.html_theme_options
    options["repository_url"] = address
    options["repository_branch"] = "main"
    options["path_to_docs"] = ""
    if not config.html_baseurl:
        config.html_baseurl = site_address(address)


def _number_exercises_by_page(app: Sphinx, env) -> list[str]:
    # Sphinx counts through the whole book, and a chapter would open with exercise 187
    for kinds in env.toc_fignumbers.values():
        exercises = kinds.get("exercise", {})
        exercises.update({name: (number,) for number, name in enumerate(exercises, 1)})
    return []


def _write_all_in_a_new_order(app: Sphinx, env) -> list[str]:
    # a new chapter changes the neighbors and menus of pages that Sphinx would leave as they are
    order = {name: (env.titles[name].astext(), *near) for name, near in env.collect_relations().items()}
    before, env.reprise_order = getattr(env, "reprise_order", order), order
    return [] if order == before else list(env.found_docs)


def _load_catalogue(app: Sphinx) -> None:
    app.reprise_catalogue = Catalogue(House(Path(app.srcdir)))


# --- parts ------------------------------------------------------------------------------------------------------------


class PartList(Page):
    """The chapters of one part: those written with their verdicts, then those that are not."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        part = self.arguments[0]
        if part not in PARTS:
            raise self.error(f"part-list: there is no part {part!r}; choose one of {', '.join(PARTS)}")
        written = [card for card in self.written() if card.part == part]
        planned = [c for c in self.catalogue.cards.values() if c.part == part and c not in written]
        page = ""
        if written:
            page += f'<ul class="reprise-chapters">{"".join(map(self.item, written))}</ul>'
        if planned:
            page += (
                f'<p class="reprise-planned-head">{"Not" if not written else "The others are not"} written yet:</p>'
                f'<ul class="reprise-planned">{"".join(map(self.plan, planned))}</ul>'
            )
        return self.raw(page)

    def item(self, card: Card) -> str:
        return (
            f'<li id="{card.slug}"><a href="{self.link(card)}">{html.escape(card.title)}</a>'
            f"<span>{authors(card)} ({card.year}), {html.escape(card.venue)}</span>"
            f"<span>{counted_chips(self.catalogue.verdicts([card]))}</span></li>"
        )

    def plan(self, card: Card) -> str:
        title = html.escape(card.title)
        if card.arxiv:
            title = f'<a href="https://arxiv.org/abs/{html.escape(card.arxiv)}">{title}</a>'
        return f'<li id="{card.slug}">{title} <span>{authors(card)} ({card.year})</span></li>'


# --- the front page's picture -----------------------------------------------------------------------------------------


class FrontExplorer(Page):
    """The first explorer of an executed chapter."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        slug = self.arguments[0]
        card = self.catalogue.cards.get(slug)
        if card is None:
            raise self.error(f"front-explorer: there is no paper {slug!r}")
        if card not in self.written():
            return []
        notebook = json.loads(self.catalogue.house.notebook(card.part, slug).read_text(encoding="utf-8"))
        explorers = list(frames.read_explorers(notebook).values())
        if not explorers:
            LOG.warning("front-explorer: the notebook of %s keeps no explorer", slug, location=self.get_location())
            return []
        more = f' From the chapter <a href="{self.link(card)}">{html.escape(card.title)}</a>.'
        return self.raw(frames.figure(explorers[0], f"{slug}-0", Path(self.env.app.outdir), self.top(), more))


# --- small things -----------------------------------------------------------------------------------------------------


class VerdictRole(SphinxRole):
    """{verdict}`reproduced` -> the chip."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if self.text not in evidence.VERDICTS:
            message = self.inliner.reporter.error(
                f"there is no verdict {self.text!r}; choose one of {', '.join(evidence.VERDICTS)}", line=self.lineno
            )
            return [], [message]
        return [nodes.raw("", evidence.chip(self.text), format="html")], []


class Shell(SphinxDirective):
    """A block of shell commands in which ADDRESS stands for the repository's address."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content).replace("ADDRESS", repository_url(Path(self.env.app.confdir)))
        return [nodes.literal_block(text, text, language="bash")]


def _write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html" or not app.config.html_baseurl:
        return
    base = app.config.html_baseurl.rstrip("/")
    pages = sorted(app.builder.get_target_uri(name) for name in app.env.found_docs)
    urls = "".join(f"<url><loc>{html.escape(f'{base}/{page}')}</loc></url>\n" for page in pages)
    (Path(app.outdir) / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n',
        encoding="utf-8",
    )
