"""Sphinx extension of the book: pages that read cards and records when the site is built.

Directives: `scoreboard`, `part-list PART`, `tally`, `front-explorer SLUG`, `shell` (a code block in which ADDRESS
stands for the repository's), `citation`; role: `verdict`. The repository's address is read from `pyproject.toml` alone.
"""

import base64
import hashlib
import html
import itertools
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.mathjax import html_visit_displaymath, html_visit_math
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from reprise.suite import evidence, frames
from reprise.suite.catalogue import PARTS, Card, Claim, load_cards
from reprise.suite.house import House, repository_url

LOG = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    for name, directive in {
        "scoreboard": Scoreboard,
        "part-list": PartList,
        "tally": Tally,
        "front-explorer": FrontExplorer,
        "shell": Shell,
        "citation": Citation,
    }.items():
        app.add_directive(name, directive)
    app.add_role("verdict", VerdictRole())
    _without_thebe(app)
    app.connect("config-inited", _set_address)
    app.connect("builder-inited", _load_catalogue)
    app.connect("env-get-updated", _number_exercises_by_page, priority=900)  # after they were numbered
    app.add_html_math_renderer("katex", (html_visit_math, None), (html_visit_displaymath, None))
    app.connect("doctree-resolved", _plain_explorers)
    app.connect("doctree-resolved", _figures_as_files)
    app.connect("html-page-context", _carry_what_is_needed, priority=900)  # after others added theirs
    app.connect("build-finished", _write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


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


def _plain_explorers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    views = [node for node in doctree.findall(nodes.raw) if frames.VIEW in node.astext()]
    if not views or app.builder.format != "html":
        return
    path = Path(app.env.doc2path(docname))
    explorers = frames.read_explorers(json.loads(path.read_text(encoding="utf-8")))
    for node in views:
        view = json.loads(re.sub(r"<[^>]*>", "", node.astext()))["model_id"]
        if view in explorers:
            name = f"{path.stem}-{list(explorers).index(view)}"
            figure = frames.figure(explorers[view], name, Path(app.outdir), _root(docname))
            node.replace_self(nodes.raw("", figure, format="html"))
        else:
            LOG.warning("a widget that is no explorer needs a kernel, which no page has; use explore()", location=node)


_INLINE = re.compile(r'src="data:image/(png|webp);base64,([^"]+)"')


def _figures_as_files(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    # a notebook carries its figures in its text, a third larger; a page fetches each when a reader comes near it
    folder = Path(app.outdir) / "_images"
    count = itertools.count()

    def stored(found: re.Match) -> str:
        data = base64.b64decode(found[2])
        path = folder / f"figure-{hashlib.sha256(data).hexdigest()[:16]}.{found[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        lazy = 'loading="lazy" ' if next(count) else ""  # the first may be on the screen at once
        return f'{lazy}src="{_root(docname)}_images/{path.name}"'

    for node in doctree.findall(nodes.raw):
        text = node.astext()
        if app.builder.format == "html" and _INLINE.search(text):
            node.clear()
            node += nodes.Text(_INLINE.sub(stored, text))


def _root(name: str) -> str:
    """The way from a page to the site's top folder."""
    return "../" * name.count("/")


# what other extensions load on every page -> what the page's body holds where it is needed; None: never
_IDLE = {"sphinx-thebe": None, "sphinx-design": "sd-", "design-tabs": "sd-tab"}


def _carry_what_is_needed(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    if app.config.html_math_renderer == "katex" and app.env.get_domain("math").data["has_equations"].get(pagename):
        app.builder.add_css_file("vendor/katex/katex.min.css", priority=600)
        app.builder.add_js_file("vendor/katex/katex.min.js", priority=600)
    body = context.get("body", "")

    def is_needed(file) -> bool:
        name = str(getattr(file, "filename", None) or file)
        needs = next((sign for part, sign in _IDLE.items() if part in name), "")
        return needs is not None and needs in body

    context["css_files"] = [file for file in context["css_files"] if is_needed(file)]
    scripts = [file for file in context["script_files"] if is_needed(file)]
    # the widgets' state, which is most of an executed notebook: its frames are files of their own
    scripts = [file for file in scripts if getattr(file, "attributes", {}).get("type") != frames.STATE]
    if pagename != "search":  # whose own scripts wait for none of these
        scripts = [_deferred(file) for file in scripts]
    context["script_files"] = scripts


def _deferred(script):
    # text is painted before scripts have come; the pages' inline scripts need the options at once
    if not getattr(script, "filename", None) or "documentation_options" in str(script.filename):
        return script
    return type(script)(script.filename, priority=script.priority, **(script.attributes | {"defer": "defer"}))


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


def _load_catalogue(app: Sphinx) -> None:
    app.reprise_catalogue = Catalogue(House(Path(app.srcdir)))


class _Page(SphinxDirective):
    """A directive whose page is read again at every build, because records change without it."""

    @property
    def catalogue(self) -> Catalogue:
        self.env.note_reread()
        return self.env.app.reprise_catalogue

    def written(self) -> list[Card]:
        """Cards whose chapter is a page of this site, in the book's order."""
        return [card for card in self.catalogue.cards.values() if docname(card) in self.env.found_docs]

    def link(self, card: Card, anchor: str = "") -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, docname(card)) + (anchor and f"#{anchor}")

    def raw(self, text: str) -> list[nodes.Node]:
        return [nodes.raw("", text, format="html")]


def docname(card: Card) -> str:
    return f"notebooks/{card.part}/{card.slug}"


def anchor(card: Card, claim: Claim) -> str:
    """The permanent anchor of a claim on the scoreboard."""
    return f"{card.slug}--{claim.id}"


# --- scoreboard -------------------------------------------------------------------------------------------------------


class Scoreboard(_Page):
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
            + _choice("verdict", "Verdict", {"": "all verdicts"} | {v: f"{v} ({n})" for v, n in _ordered(verdicts)})
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
            f'<a href="{self.link(card)}">{html.escape(card.title)}</a> <span>{_authors(card)} ({card.year})'
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


def _ordered(verdicts: Counter) -> list[tuple[str, int]]:
    return [(word, verdicts[word]) for word in evidence.VERDICTS if verdicts[word]]


def _counted_chips(verdicts: Counter) -> str:
    return " ".join(evidence.chip(word).replace(f" {word}<", f" {count} {word}<") for word, count in _ordered(verdicts))


def _authors(card: Card) -> str:
    names = [name for name in card.authors if name != "et al."]
    if len(names) > 2 or len(names) < len(card.authors):
        return f"{html.escape(names[0])} et al."
    return html.escape(" and ".join(names))


class Tally(_Page):
    """One paragraph: how many chapters are written and how their claims fared."""

    def run(self) -> list[nodes.Node]:
        cards = self.written()
        verdicts = Counter(verdict for card in cards for _, verdict in self.catalogue.settled(card))
        total = verdicts.total()
        return self.raw(
            f'<p class="reprise-tally">{len(cards)} of {len(self.catalogue.cards)} chapters are written, with {total} '
            f"claim{'' if total == 1 else 's'}. {_counted_chips(verdicts)}</p>"
        )


# --- parts ------------------------------------------------------------------------------------------------------------


class PartList(_Page):
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
        verdicts = Counter(verdict for _, verdict in self.catalogue.settled(card))
        return (
            f'<li><a href="{self.link(card)}">{html.escape(card.title)}</a>'
            f"<span>{_authors(card)} ({card.year}), {html.escape(card.venue)}</span>"
            f"<span>{_counted_chips(verdicts)}</span></li>"
        )

    def plan(self, card: Card) -> str:
        title = html.escape(card.title)
        if card.arxiv:
            title = f'<a href="https://arxiv.org/abs/{html.escape(card.arxiv)}">{title}</a>'
        return f"<li>{title} <span>{_authors(card)} ({card.year})</span></li>"


# --- the front page's picture -----------------------------------------------------------------------------------------


class FrontExplorer(_Page):
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
        return self.raw(
            frames.figure(explorers[0], f"{slug}-0", Path(self.env.app.outdir), _root(self.env.docname), more)
        )


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


class Citation(SphinxDirective):
    """A BibTeX entry for the book itself, from pyproject's version and address."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.app.confdir)
        with open(root / "pyproject.toml", "rb") as file:
            version = tomllib.load(file)["project"]["version"]
        text = (
            "@software{reprise,\n"
            "  title   = {Reprise: papers on learning, control and the brain, performed again and judged},\n"
            "  author  = {{The Reprise authors}},\n"
            f"  version = {{{version}}},\n"
            f"  url     = {{{repository_url(root)}}},\n"
            "}"
        )
        return [nodes.literal_block(text, text, language="bibtex")]


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
