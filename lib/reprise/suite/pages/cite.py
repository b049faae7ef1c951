"""How to cite: the book from CITATION.cff, a chapter and its paper from the card; BibTeX written by pybtex."""

from functools import lru_cache
from pathlib import Path

import yaml
from docutils import nodes
from pybtex.database import BibliographyData, Entry, Person, parse_file
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from reprise.suite.catalogue import Card
from reprise.suite.house import repository_url

ADVICE = "Cite the paper for its idea, and the chapter for the measurement."


def book(root: Path) -> Entry:
    """The book itself, from CITATION.cff; its address from pyproject.toml."""
    cff = read_cff(root)
    fields = [("title", f"{{{cff['title']}}}"), ("version", str(cff["version"])), ("url", repository_url(root))]
    return _entry("software", fields, [f"{{{author['name']}}}" for author in cff["authors"]])


def read_cff(root: Path) -> dict:
    return yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))


def chapter(card: Card, root: Path, site: str = "") -> Entry:
    """A chapter of the book; `site` is the site's public address."""
    cff = read_cff(root)
    fields = [
        ("title", f"{{Reprise of ``{card.title}''}}"),
        ("howpublished", f"{{Chapter of {cff['title']}, version {cff['version']}}}"),
        ("url", f"{site or repository_url(root) + '/'}notebooks/{card.part}/{card.slug}.{'html' if site else 'ipynb'}"),
    ]
    return _entry("misc", fields, [f"{{{author['name']}}}" for author in cff["authors"]])


def paper(card: Card, bibliography: Path) -> tuple[str, Entry]:
    """Key and entry of a card's paper: as the bibliography has it, or else from the card."""
    for key, entry in _entries(bibliography, bibliography.stat().st_mtime_ns).items():
        if card.arxiv and entry.fields.get("eprint") == card.arxiv:
            return key, entry
    fields = [("title", f"{{{card.title}}}"), ("year", str(card.year)), ("note", f"{{{card.venue}}}")]
    if card.arxiv:
        fields += [("eprint", card.arxiv), ("archiveprefix", "arXiv")]
    names = ["others" if name == "et al." else name for name in card.authors]
    return card.slug, _entry("misc", fields, names)


@lru_cache(maxsize=1)
def _entries(bibliography: Path, mtime_ns: int) -> dict[str, Entry]:
    return parse_file(bibliography, bib_format="bibtex").entries  # seconds, if every chapter did it


def bibtex(entries: dict[str, Entry]) -> str:
    return BibliographyData(entries).to_string("bibtex").strip()


def _entry(kind: str, fields: list[tuple[str, str]], names: list[str]) -> Entry:
    return Entry(kind, fields, persons={"author": [Person(name) for name in names]})


class Citation(SphinxDirective):
    """A BibTeX entry for the book itself."""

    def run(self) -> list[nodes.Node]:
        text = bibtex({"reprise": book(Path(self.env.app.confdir))})
        return [nodes.literal_block(text, text, language="bibtex")]


def add_section(app: Sphinx, doctree: nodes.document) -> None:
    """End every chapter with the entries of its paper and of itself."""
    card, top = app.reprise_catalogue.card_of(app.env.docname), next(doctree.findall(nodes.section), None)
    if card is None or top is None:
        return
    root = Path(app.confdir)
    bibliography = root / "book/references.bib"
    key, entry = paper(card, bibliography)
    text = bibtex({key: entry, f"reprise-{card.slug}": chapter(card, root, app.config.html_baseurl)})
    section = nodes.section("", nodes.title("", "Cite this chapter"), ids=["cite-this-chapter"])
    section += [nodes.paragraph("", ADVICE), nodes.literal_block(text, text, language="bibtex")]
    top += section
    for source in (app.reprise_catalogue.house.card(card.part, card.slug), bibliography, root / "CITATION.cff"):
        app.env.note_dependency(str(source))
