"""What a link to a page shows elsewhere (OpenGraph): title, description and a picture drawn when the site is built."""

import hashlib
import html
import re
from functools import lru_cache
from pathlib import Path

import matplotlib
from docutils import nodes
from PIL import Image, ImageDraw, ImageFont
from sphinx.application import Sphinx

from reprise.suite import evidence
from reprise.suite.pages.page import authors, ordered

SIZE = (1200, 630)
_INK, _MUTED, _MARK = "#14171a", "#59616a", "#D55E00"
_CHIPS = {  # text and ground, as on the page
    "reproduced": ("#0b5d3b", "#e2f3ea"),
    "weaker": ("#684700", "#faf0d6"),
    "contradicted": ("#8c1d18", "#fbe7e5"),
}
_SERIF = "book/_static/vendor/source-serif/source-serif-4-latin-wght-normal.woff2"


def add_tags(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Put description and OpenGraph tags into a page's head, and its picture into the site."""
    if doctree is None:
        return
    catalogue, site = app.reprise_catalogue, app.config.html_baseurl
    card = catalogue.card_of(pagename)
    title = card.title if card else app.env.titles[pagename].astext()
    if card:
        line, counted = f"{_plain_authors(card)} ({card.year})", ordered(catalogue.verdicts([card]))
        words = f"{line}, performed again. {_sentence(counted)}"
    else:
        line, counted, words = "papers, taught and performed again", [], first_words(doctree)
    tags = {"og:title": title, "og:description": words, "og:type": "article", "og:site_name": app.config.html_title}
    if site:
        heading = title if card else app.config.html_title
        picture = store(Path(app.outdir), Path(app.confdir), heading, line, tuple(counted))
        tags |= {
            "og:url": f"{site}{app.builder.get_target_uri(pagename)}",
            "og:image": f"{site}{picture}",
            "og:image:width": str(SIZE[0]),
            "og:image:height": str(SIZE[1]),
            "og:image:alt": f"{heading}; {line}. {_sentence(counted)}".strip(),
            "twitter:card": "summary_large_image",
        }
    context["metatags"] = context.get("metatags", "") + f'<meta name="description" content="{html.escape(words)}" />\n'
    context["metatags"] += "".join(
        f'<meta {"name" if name.startswith("twitter") else "property"}="{name}" content="{html.escape(text)}" />\n'
        for name, text in tags.items()
    )


def first_words(doctree: nodes.document, limit: int = 200) -> str:
    """The first paragraph of a page as plain text, cut after a word."""
    paragraph = next(doctree.findall(nodes.paragraph), nodes.paragraph())
    shown = (re.sub(r"<[^>]+>", "", found.parent.astext()) if isinstance(found.parent, nodes.raw) else found.astext()
             for found in paragraph.findall(nodes.Text))  # fmt: skip
    text = " ".join("".join(shown).split())
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def _plain_authors(card) -> str:
    return html.unescape(authors(card))


def _sentence(counted: list[tuple[str, int]]) -> str:
    if not counted:
        return ""
    total = sum(count for _, count in counted)
    return f"Of {total} claims: {', '.join(f'{count} {word}' for word, count in counted)}."


def store(out: Path, root: Path, title: str, line: str, counted: tuple[tuple[str, int], ...]) -> str:
    """Draw a page's picture unless it is there already; its path below `out` names its content."""
    name = hashlib.sha256(repr((title, line, counted)).encode()).hexdigest()[:16]
    path = out / "_images" / "social" / f"{name}.png"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        image = draw(root, title, line, counted)
        image.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path)  # 20 kB in 20 ms
    return path.relative_to(out).as_posix()


def draw(root: Path, title: str, line: str, counted: tuple[tuple[str, int], ...]) -> Image.Image:
    """A card of 1200 × 630 pixels: the book's mark, a title, a line below it, verdicts with their counts."""
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    left = 80
    for x, y in ((left + 9, 88), (left + 9, 116)):
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=_MARK)
    pen.rectangle((left + 34, 62, left + 40, 142), fill=_MARK)
    pen.rectangle((left + 54, 62, left + 74, 142), fill=_MARK)
    pen.text((left + 104, 102), "Reprise", font=_serif(root, 52), fill=_INK, anchor="lm")
    for size in (72, 62, 54, 46):
        rows = wrap(title, lambda text, size=size: pen.textlength(text, font=_serif(root, size)), SIZE[0] - 2 * left)
        if len(rows) * size < 170:
            break
    for number, row in enumerate(rows):
        pen.text((left, 200 + 1.2 * size * number), row, font=_serif(root, size), fill=_INK)
    pen.text((left, 224 + 1.2 * size * len(rows)), line, font=_sans(30), fill=_MUTED)
    chips = [(word, f"{evidence.SIGNS[word]} {count} {word}") for word, count in counted]
    widths = [pen.textlength(text, font=_sans(24)) + 36 for _, text in chips]
    x, y = left, 530 if sum(widths) + 14 * len(widths) < SIZE[0] - 2 * left else 490
    for (word, text), width in zip(chips, widths, strict=True):
        if x + width > SIZE[0] - left:
            x, y = left, y + 60
        ink, ground = _CHIPS.get(word, ("#3d4754", "#e9ecf0"))
        pen.rounded_rectangle((x, y, x + width, y + 48), 24, fill=ground)
        pen.text((x + 18, y + 24), text, font=_sans(24), fill=ink, anchor="lm")
        x += width + 14
    return image


def wrap(text: str, measure, width: float) -> list[str]:
    """Rows of words, none wider than `width` by `measure` unless a single word is."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and measure(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


@lru_cache
def _serif(root: Path, size: int) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.truetype(str(root / _SERIF), size)
        font.set_variation_by_axes([600])
        return font
    except OSError:  # a site without the house's font, or a Pillow that cannot read it
        return ImageFont.truetype(_shipped("DejaVuSerif-Bold.ttf"), round(0.85 * size))


@lru_cache
def _sans(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_shipped("DejaVuSans.ttf"), size)


def _shipped(name: str) -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)
