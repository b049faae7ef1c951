"""The built site in a real browser: it moves, it asks no other machine for anything, and everyone can use it."""

import base64
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from visit import CHAPTERS, DESKTOP, PAGES, PHONE, ROOT, SITE, repository

ARROW_LEFT, ARROW_RIGHT = "\ue012", "\ue014"  # as WebDriver names these keys
MAIN_PAGES = ["book/intro", "book/map", "book/scoreboard", *CHAPTERS]


@pytest.mark.parametrize("page", MAIN_PAGES)
def test_no_request_leaves_the_machine_and_none_fails(browser, page):
    browser.open(page)
    visit = browser.log()
    assert visit.requests, "the log saw no request at all"
    elsewhere = [url for url in visit.requests if not url.startswith((browser.site, "data:", "blob:"))]
    assert elsewhere == []
    assert visit.failures == []
    assert visit.complaints == []


def visible_image(browser, explorer) -> bytes:
    """Pixels of the one image that an explorer shows."""
    images = [image for image in explorer.find_elements("tag name", "img") if image.is_displayed()]
    assert len(images) == 1, f"an explorer shows {len(images)} images at once"
    return base64.b64decode(images[0].screenshot_as_base64)


@pytest.mark.parametrize("page", CHAPTERS)
def test_explorer_moves_by_keyboard_without_a_kernel(browser, page):
    browser.open(page)
    explorers = browser.driver.find_elements("css selector", ".reprise-explorer")
    assert explorers, "the chapter shows no explorer"
    for explorer in explorers:
        for handle in explorer.find_elements("css selector", ".noUi-handle"):
            first, last, now = (float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "max", "now"))
            assert handle.get_attribute("aria-label"), "a slider has no name"
            reading = handle.get_attribute("aria-valuetext")
            before = visible_image(browser, explorer)
            browser.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", handle)
            handle.send_keys(ARROW_RIGHT if now < last or first == last else ARROW_LEFT)
            browser.wait(
                f"return {_focused('aria-valuetext')} !== {reading!r}", f"the reading stays at {reading}", seconds=5
            )
            assert visible_image(browser, explorer) != before, "the slider moves and the picture does not"


def _focused(attribute: str) -> str:
    return f"document.activeElement.getAttribute('{attribute}')"


@pytest.mark.parametrize("page", CHAPTERS)
def test_explorer_opens_with_its_picture_named_and_explained(browser, page):
    browser.open(page)
    for explorer in browser.driver.find_elements("css selector", ".reprise-explorer"):
        (image,) = [image for image in explorer.find_elements("tag name", "img") if image.is_displayed()]
        assert "=" in image.get_attribute("alt")
        assert len(explorer.find_element("css selector", ".reprise-explorer-alt").text) > 20
        assert browser.js("return arguments[0].naturalWidth", image) > 300


def test_front_page_explorer_moves_by_keyboard(browser):
    browser.open("book/intro")
    (figure,) = browser.driver.find_elements("css selector", ".reprise-front")
    image = figure.find_element("tag name", "img")
    for slider in figure.find_elements("css selector", "input[type=range]"):
        before, name = image.get_attribute("src"), image.get_attribute("alt")
        at_end = slider.get_attribute("value") == slider.get_attribute("max")
        slider.send_keys(ARROW_LEFT if at_end else ARROW_RIGHT)
        assert image.get_attribute("src") != before
        assert image.get_attribute("alt") != name
        browser.wait(
            "const i = document.querySelector('.reprise-front img'); return i.complete && i.naturalWidth > 300",
            "the next picture does not load",
        )
    assert browser.log().failures == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "page",
    [
        *MAIN_PAGES,
        "book/paths",
        "book/how-we-judge",
        "book/sparsity/index",
        "book/contribute",
        "book/references",
        "book/glossary",
    ],
)
def test_axe_finds_nothing_serious(browser, page, theme):
    browser.open(page, theme=theme)
    assert browser.violations() == []


@pytest.mark.parametrize("page", PAGES)
def test_phone_shows_every_page_without_sideways_scrolling(browser, page):
    browser.open(page, size=PHONE)
    width, window = browser.js("return [document.documentElement.scrollWidth, window.innerWidth]")
    wide = browser.js(
        "return [...document.querySelectorAll('article *')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
        ".slice(0, 5).map((e) => e.outerHTML.slice(0, 120))"
    )
    assert width <= window == PHONE[0], f"{width} px wide; reaching out: {wide}"


@pytest.mark.parametrize("page", CHAPTERS)
def test_launch_links_open_the_executed_notebook(browser, page):
    browser.open(page)
    owner, name = repository()
    links = browser.js("return [...document.querySelectorAll('.article-header-buttons a')].map((link) => link.href)")
    assert f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{page}.ipynb" in links
    assert f"https://mybinder.org/v2/gh/{owner}/{name}/main?urlpath=lab/tree/{page}.ipynb" in links
    assert (ROOT / f"{page}.ipynb").is_file()


@pytest.mark.parametrize("page", CHAPTERS)
def test_mathematics_is_typeset_without_errors(browser, page):
    browser.open(page)
    assert browser.js("return document.querySelectorAll('mjx-container').length") > 0
    errors = "return [...document.querySelectorAll('[data-mml-node=merror]')].map((e) => e.textContent)"
    assert browser.js(errors) == []


@pytest.mark.parametrize("how", ["served", "opened as a file", "on a phone"])
def test_scoreboard_filter_narrows_the_claims(browser, how):
    page = (SITE / "book/scoreboard.html").as_uri() if how == "opened as a file" else "book/scoreboard"
    browser.open(page, size=PHONE if how == "on a phone" else DESKTOP)
    rows = "[...document.querySelectorAll('tr[data-verdict]')].filter((row) => row.offsetParent)"
    shown = f"return {rows}.map((row) => row.%s)"
    every = browser.js(shown % "dataset.verdict")
    assert len(every) == len(written_claims())
    choose = (
        "const s = document.querySelector('.reprise-filter [name=%s]'); s.value = %r; "
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.js(choose % ("verdict", every[0]))
    assert browser.js(shown % "dataset.verdict") == [verdict for verdict in every if verdict == every[0]]
    browser.js(choose % ("verdict", ""))
    part = CHAPTERS[0].split("/")[1]
    browser.js(choose % ("part", part))
    assert set(browser.js(shown % "parentElement.dataset.part")) == {part}


def written_claims() -> list[str]:
    """Anchors of every claim of every written chapter, read from the cards alone."""
    anchors = []
    for page in CHAPTERS:
        _, part, slug = page.split("/")
        card = yaml.safe_load(
            (ROOT / "lib/reprise" / part / f"{slug.replace('-', '_')}.yml").read_text(encoding="utf-8")
        )
        anchors += [f"{slug}--{claim['id']}" for claim in card["claims"]]
    return anchors


def test_every_claim_has_its_permanent_anchor(site):
    page = BeautifulSoup((SITE / "book/scoreboard.html").read_text(encoding="utf-8"), "html.parser")
    found = [row["id"] for row in page.select("tr[data-verdict]")]
    assert sorted(found) == sorted(written_claims())


def test_every_link_inside_the_site_leads_somewhere(site):
    anchors, broken = {}, []
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in SITE.rglob("*.html")}
    pages = {path: page for path, page in pages.items() if "_static" not in path.parts}
    for path, page in pages.items():
        anchors[path] = {tag["id"] for tag in page.select("[id]")} | {tag["name"] for tag in page.select("a[name]")}
    for path, page in pages.items():
        for tag, attribute in [(t, "href") for t in page.select("a[href], link[href]")] + [
            (t, "src") for t in page.select("[src]")
        ]:
            url = urlsplit(tag[attribute])
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            known = url.fragment in anchors.get(target, {url.fragment}) or not url.fragment
            if not target.is_file() or not known:
                broken.append(f"{path.relative_to(SITE)}: {tag[attribute]}")
    assert broken == []


def test_no_page_names_a_script_or_style_on_another_machine(site):
    for path in SITE.rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        loaded = [tag["src"] for tag in page.select("script[src], img[src], iframe[src]")]
        loaded += [tag["href"] for tag in page.select("link[rel=stylesheet], link[rel=preload]")]
        assert [url for url in loaded if urlsplit(url).netloc] == [], path


def test_front_page_is_light(browser):
    browser.open("book/intro")
    sizes = browser.js("return performance.getEntriesByType('resource').map((e) => [e.name, e.decodedBodySize])")
    assert sum(size for _, size in sizes) < 3_000_000, sorted(sizes, key=lambda found: -found[1])[:5]
