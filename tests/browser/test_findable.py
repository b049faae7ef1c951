"""The map is walked by pointer, keyboard and finger; claims are filtered and fetched; search finds; citations copy."""

import csv
import io
import json
from urllib.request import urlopen

import pytest
import yaml
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from visit import CHAPTERS, PAGES, PHONE, ROOT, SITE

MARKED = "return document.querySelector('.reprise-map .is-marked')?.dataset.slug ?? null"
ON = "return [...document.querySelectorAll('.reprise-map li.is-on')].map((item) => item.dataset.slug)"
FOCUSED = "return document.activeElement.closest('li[data-slug]')?.dataset.slug ?? document.activeElement.textContent"


def cards() -> dict[str, dict]:
    """Every card by slug, read from the files alone."""
    found = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "lib/reprise").glob("*/*.yml"))
    return {card["slug"]: card for card in found}


CARDS = cards()
WRITTEN = [page.split("/")[-1] for page in CHAPTERS]


def builds_on(slug: str) -> set[str]:
    """Everything that a paper needs, directly or not."""
    needs = set(CARDS[slug]["needs"])
    return needs.union(*map(builds_on, needs))


def leads_to(slug: str) -> set[str]:
    return {other for other in CARDS if slug in builds_on(other)}


def busiest() -> str:
    """A written paper on which most others build."""
    return max(WRITTEN, key=lambda slug: len(leads_to(slug)))


# --- the map ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_map_shows_every_paper_and_a_line_for_every_need(browser, how):
    browser.open((SITE / "book/map.html").as_uri() if how == "opened as a file" else "book/map")
    slugs = browser.js("return [...document.querySelectorAll('.reprise-map li')].map((item) => item.dataset.slug)")
    assert sorted(slugs) == sorted(CARDS)
    edges = browser.js(
        "return [...document.querySelectorAll('.reprise-map path')]"
        ".filter((path) => path.getTotalLength() > 5).map((path) => path.dataset.edge)"
    )
    assert sorted(edges) == sorted(f"{need} {slug}" for slug, card in CARDS.items() for need in card["needs"])


@pytest.mark.parametrize("size", [(1280, 900), (800, 900), PHONE])
def test_lines_end_at_their_papers_at_every_width(browser, size):
    browser.open("book/map", size=size)
    far = browser.js(
        """
        const map = document.querySelector(".reprise-map"), origin = map.getBoundingClientRect();
        const gap = (point, slug) => {  // to the row of a paper: its dot and its words
          const item = map.querySelector(`li[data-slug="${slug}"]`);
          const row = [...item.querySelectorAll(":scope > .reprise-dot, :scope > a")];
          const boxes = row.map((part) => part.getBoundingClientRect());
          return Math.min(...boxes.map((box) => Math.hypot(
            Math.max(box.left - origin.left - point.x, 0, point.x - box.right + origin.left),
            Math.max(box.top - origin.top - point.y, 0, point.y - box.bottom + origin.top))));
        };
        return [...map.querySelectorAll("path")].flatMap((path) => {
          const [from, to] = path.dataset.edge.split(" "), length = path.getTotalLength();
          return [gap(path.getPointAtLength(0), from), gap(path.getPointAtLength(length), to)];
        });
        """
    )
    assert max(far) < 6, "pixels between a line and its paper"


def test_map_is_walked_by_keyboard_along_its_lines(browser):
    browser.open("book/map")
    keys = ActionChains(browser.driver)
    stops = browser.js("return document.querySelectorAll('.reprise-map a[tabindex=\"0\"]').length")
    assert stops == 1, "the map is one stop for the tabulator"
    parent = busiest()
    browser.js(f"document.querySelector('li[data-slug={parent}] > a').focus()")
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    child = browser.js(FOCUSED)
    assert parent in CARDS[child]["needs"]
    assert browser.js(MARKED) == child
    assert set(browser.js(ON)) == {child} | builds_on(child) | leads_to(child)
    keys.send_keys(Keys.ARROW_LEFT).perform()
    assert browser.js(FOCUSED) == CARDS[child]["needs"][0]
    before = browser.js(FOCUSED)
    keys.send_keys(Keys.ARROW_DOWN).perform()
    assert browser.js(FOCUSED) != before
    keys.send_keys(Keys.ARROW_UP).perform()
    assert browser.js(FOCUSED) == before
    assert browser.js("return getComputedStyle(document.activeElement).outlineStyle") != "none", "the focus is seen"
    keys.send_keys(Keys.HOME).perform()
    assert browser.js("return document.activeElement.tabIndex") == 0
    keys.send_keys(Keys.TAB).perform()
    assert not browser.js("return Boolean(document.activeElement.closest('.reprise-map'))"), "one more leaves it"
    assert browser.js(MARKED) is None


def test_enter_on_the_map_opens_the_chapter(browser):
    browser.open("book/map")
    slug = WRITTEN[0]
    browser.js(f"document.querySelector('li[data-slug={slug}] > a').focus()")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    browser.wait(f"return location.pathname.endsWith('/{slug}.html')", f"Enter does not open {slug}")


def test_pointer_marks_what_a_paper_builds_on_and_what_builds_on_it(browser):
    browser.open("book/map")
    slug = busiest()
    link = browser.driver.find_element("css selector", f"li[data-slug={slug}] > a")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", link)
    ActionChains(browser.driver).move_to_element(link).perform()
    assert set(browser.js(ON)) == {slug} | builds_on(slug) | leads_to(slug)
    lines = browser.js("return [...document.querySelectorAll('path.is-on')].map((path) => path.dataset.edge)")
    assert len(lines) >= len(leads_to(slug))
    assert CARDS[slug]["title"] in browser.js("return document.querySelector('.reprise-map-card').innerText")
    heading = browser.driver.find_element("css selector", "article h1")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", heading)
    ActionChains(browser.driver).move_to_element(heading).perform()
    assert browser.js(MARKED) is None


def test_finger_marks_with_the_first_tap_and_opens_with_the_second(browser):
    browser.open("book/map", size=PHONE)
    slug = WRITTEN[0]
    link = browser.driver.find_element("css selector", f"li[data-slug={slug}] > a")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", link)
    tap = (
        "arguments[0].dispatchEvent(new PointerEvent('click', "
        "{pointerType: 'touch', bubbles: true, cancelable: true, view: window}))"
    )
    browser.js(tap, link)
    assert browser.js(MARKED) == slug
    assert browser.js("return location.pathname").endswith("/map.html")
    browser.js(tap, link)
    browser.wait(f"return location.pathname.endsWith('/{slug}.html')", "the second tap does not open the chapter")


def test_axe_finds_nothing_serious_while_a_paper_is_marked_by_focus(browser):
    for theme in ("light", "dark"):
        browser.open("book/map", theme=theme)
        browser.js(f"document.querySelector('li[data-slug={busiest()}] > a').focus()")
        found = [line for line in browser.violations() if not line.startswith("color-contrast")]  # the rest steps back
        assert found == []


def test_first_screen_says_what_it_is_how_far_it_is_and_where_to_go(browser):
    browser.open("book/intro")
    seen = browser.js(
        """
        const inside = (element) => element && element.getBoundingClientRect().bottom <= innerHeight;
        return ["article h1", "article strong", ".reprise-tally", ".reprise-map-small", 'article a[href="map.html"]']
          .map((selector) => Boolean(inside(document.querySelector(selector))));
        """
    )
    assert seen == [True] * 5


# --- the scoreboard ---------------------------------------------------------------------------------------------------

SHOWN = (
    "return [...document.querySelectorAll('tr[data-verdict]')].filter((row) => row.offsetParent).map((row) => row.id)"
)


@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_address_keeps_the_chosen_claims(browser, how):
    page = (
        (SITE / "book/scoreboard.html").as_uri() if how == "opened as a file" else f"{browser.site}book/scoreboard.html"
    )
    browser.open(page)
    part = CHAPTERS[0].split("/")[1]
    browser.js(
        "const s = document.querySelector('.reprise-filter [name=part]'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change', {bubbles: true}))",
        part,
    )
    chosen, address = browser.js(SHOWN), browser.js("return location.href")
    assert f"part={part}" in address
    browser.open(address)
    assert browser.js(SHOWN) == chosen
    assert browser.js("return document.querySelector('.reprise-filter [name=part]').value") == part
    browser.open(f"{page}?verdict=no-such-word")
    assert len(browser.js(SHOWN)) > len(chosen), "an unknown word hides nothing"


def test_counts_of_the_summary_lead_to_as_many_claims(browser):
    browser.open("book/scoreboard")
    bars = browser.js(
        "return [...document.querySelectorAll('.reprise-bar a')].map((bar) => [bar.href, parseInt(bar.title)])"
    )
    assert sum(count for href, count in bars if "part=" not in href) == len(browser.js(SHOWN))
    for href, count in bars[:3] + bars[-3:]:
        browser.open(href)
        assert len(browser.js(SHOWN)) == count


def test_downloads_carry_the_claims_that_the_page_shows(browser):
    browser.open("book/scoreboard")
    shown = browser.js(SHOWN)
    hrefs = browser.js("return [...document.querySelectorAll('.reprise-downloads a[download]')].map((a) => a.href)")
    texts = [urlopen(href).read().decode() for href in hrefs]
    rows, content = list(csv.DictReader(io.StringIO(texts[0]))), json.loads(texts[1])
    assert [f"{row['slug']}--{row['claim']}" for row in rows] == shown
    assert [f"{row['slug']}--{row['claim']}" for row in content["claims"]] == shown
    assert [row["link"].split("#")[1] for row in rows] == shown


# --- search, neighbors, citations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_search_finds_a_chapter_by_its_title_and_an_unwritten_paper_on_the_map(browser, how):
    page = (SITE / "search.html").as_uri() if how == "opened as a file" else f"{browser.site}search.html"
    unwritten = next(card for slug, card in CARDS.items() if slug not in WRITTEN)
    links = "[...document.querySelectorAll('#search-results li a')]"
    for words, found in (
        (CARDS[WRITTEN[0]]["title"].split(":")[0], f"/{WRITTEN[0]}.html"),
        (unwritten["title"].split(":")[0], "/map.html"),
    ):
        browser.open(f"{page}?q={words.replace(' ', '+').replace('&', '')}")
        browser.wait(
            f"return {links}.some((link) => link.pathname.endsWith('{found}'))",
            f"{words!r} does not find {found}",
        )


def test_pages_lead_on_to_the_next_and_back_in_the_order_of_the_contents(browser):
    for before, page, after in zip(PAGES, PAGES[1:], PAGES[2:]):
        text = (SITE / f"{page}.html").read_text(encoding="utf-8")
        for side, other in (("prev", before), ("next", after)):
            at = text.find(f'rel="{side}"')
            assert at > 0, f"{page} has no {side}"
            assert f"{other.split('/')[-1]}.html" in text[at : at + 300]


@pytest.mark.parametrize("page", CHAPTERS[:1])
def test_citation_can_be_copied_with_one_press(browser, page):
    browser.open(page)
    button = browser.js("return document.querySelector('#cite-this-chapter button.copybtn')")
    target = browser.js("return document.querySelector(arguments[0].dataset.clipboardTarget).textContent", button)
    assert f"@misc{{reprise-{page.split('/')[-1]}," in target


def test_every_word_of_the_glossary_can_be_linked(browser):
    browser.open("book/glossary")
    words = browser.js(
        "return [...document.querySelectorAll('dl.glossary dt')].map((term) => [term.id, term.textContent])"
    )
    assert len(words) >= 20
    assert all(name.startswith("term-") for name, _ in words)
    titles = [text.lower() for _, text in words]
    assert titles == sorted(titles)
