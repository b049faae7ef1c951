"""The built site in a real browser: it moves, it asks no other machine for anything, and everyone can use it."""

import base64
import functools
import json
import re
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from selenium.webdriver.common.keys import Keys
from visit import CHAPTERS, DESKTOP, PAGES, PHONE, ROOT, SITE, Browser, file_address, repository

EXPLORING = ["book/intro", *CHAPTERS]  # pages with explorers
MAX_PAGE_BYTES = 1_500_000  # of a chapter, uncompressed, without the frames that its explorers fetch when used

# --- offline and fast -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, "search", "genindex"])
@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_no_request_leaves_the_machine_and_none_fails(browser, page, how):
    browser.open(file_address(page) if how == "opened as a file" else page)
    visit = browser.log()
    assert visit.requests, "the log saw no request at all"
    at_home = ("file:", "data:") if how == "opened as a file" else (browser.site, "data:")
    assert [url for url in visit.requests if not url.startswith(at_home)] == []
    assert visit.failures == []
    assert visit.complaints == []


@pytest.mark.parametrize("page", EXPLORING)
@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_explorers_answer_to_the_keyboard_without_a_kernel(browser, page, how):
    browser.open(file_address(page) if how == "opened as a file" else page)
    explorers = browser.driver.find_elements("css selector", ".reprise-explorer")
    assert explorers, "the page shows no explorer"
    for explorer in explorers:
        image = explorer.find_element("tag name", "img")
        for slider in explorer.find_elements("tag name", "input"):
            pixels, text = visible_pixels(browser, image), image.get_attribute("alt")
            move(browser, slider)
            loaded = "return arguments[0].complete && arguments[0].naturalWidth > 300"
            browser.wait(loaded, "the next picture does not come", 5, image)
            assert visible_pixels(browser, image) != pixels, "the slider moves and the picture does not"
            assert image.get_attribute("alt") != text
    assert browser.log().failures == []


def move(browser: Browser, slider) -> None:
    """One step of a slider, by arrow key, wherever it can go."""
    at_end = slider.get_attribute("value") == slider.get_attribute("max")
    browser.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", slider)
    slider.send_keys(Keys.ARROW_LEFT if at_end else Keys.ARROW_RIGHT)


def visible_pixels(browser: Browser, image) -> bytes:
    browser.js("arguments[0].scrollIntoView({block: 'center'})", image)
    return base64.b64decode(image.screenshot_as_base64)


@pytest.mark.parametrize("page", EXPLORING)
def test_an_explorer_fetches_its_other_frames_only_when_someone_reaches_for_a_slider(browser, page):
    browser.open(page)
    explorers = browser.driver.find_elements("css selector", ".reprise-explorer")
    frames = [json.loads(explorer.get_attribute("data-frames")) for explorer in explorers]
    assert fetched_frames(browser) == len(explorers)
    for explorer in explorers:
        browser.js("arguments[0].focus()", explorer.find_element("tag name", "input"))
    everything = sum(len(set(names)) for names in frames)
    browser.wait(f"return {FETCHED} >= {everything}", "not every frame is fetched ahead", 10)


FETCHED = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/explorer-')).length"


def fetched_frames(browser: Browser) -> int:
    return browser.js(f"return {FETCHED}")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(browser, page):
    browser.open(page)
    files = browser.js(
        "return ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
        ".filter((e) => !e.name.includes('/explorer-')).map((e) => [e.decodedBodySize, e.encodedBodySize, e.name])"
    )
    plain, sent = sum(file[0] for file in files), sum(file[1] for file in files)
    assert plain < MAX_PAGE_BYTES, sorted(files, reverse=True)[:5]
    assert 0 < sent < plain / 1.5, "the server of this test compresses text, as public ones do"


@pytest.mark.parametrize("page", CHAPTERS)
def test_mathematics_is_typeset_without_errors(browser, page):
    browser.open(file_address(page))
    assert browser.js("return document.querySelectorAll('.katex').length") > 0
    assert browser.js("return [...document.querySelectorAll('.katex-error')].map((e) => e.title)") == []
    left = browser.js(
        "return [...document.querySelectorAll('.math')].map((e) => e.innerText).filter((text) => text.includes('\\\\'))"
    )
    assert left == []


@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_search_finds_a_chapter(browser, how):
    start = file_address("search") if how == "opened as a file" else f"{browser.site}search.html"
    browser.open(f"{start}?q=lottery+ticket")
    browser.wait("return document.querySelectorAll('#search-results li a').length > 0", "nothing is found")
    places = browser.js("return [...document.querySelectorAll('#search-results li a')].map((a) => a.pathname)")
    assert any(place.endswith("/lottery-ticket.html") for place in places)
    browser.driver.find_element("css selector", "#search-results li a").click()
    browser.wait("return document.querySelector('article.bd-article h1') !== null", "the result opens no page")


@pytest.mark.parametrize("how", ["served", "opened as a file"])
def test_light_and_dark_are_one_key_away_and_last(browser, how):
    first, second = ("book/intro", "book/paths")
    if how == "opened as a file":
        first, second = file_address(first), file_address(second)
    browser.open(first)
    assert theme(browser) == "light"
    switch = browser.driver.find_element("css selector", ".theme-switch-button")
    switch.send_keys(Keys.ENTER)
    assert theme(browser) == "dark"
    background = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.js(background)
    browser.open(second)
    assert (theme(browser), browser.js(background)) == ("dark", dark)
    browser.js("localStorage.clear()")


THEME = "document.documentElement.dataset.theme"


def theme(browser: Browser) -> str:
    return browser.js(f"return {THEME}")


# --- everyone can use it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, "search"])
def test_axe_finds_nothing_serious_light_or_dark_large_or_small(browser, page):
    browser.open(page)
    found = {}
    for name, size in (("large", DESKTOP), ("small", PHONE)):
        browser.look("light", size)
        browser.wait(f"return {THEME} === 'light'", "the page does not turn light")
        found[f"light, {name}"] = browser.violations()
        browser.look("dark", size)
        browser.wait(f"return {THEME} === 'dark'", "the page does not turn dark")
        found[f"dark, {name}"] = browser.violations(["color-contrast", "link-in-text-block"])  # all that dark changes
    assert {where: complaints for where, complaints in found.items() if complaints} == {}


@pytest.mark.parametrize("page", EXPLORING)
def test_explorers_are_named_reached_by_tab_and_seen_to_have_focus(browser, page):
    browser.open(page)
    for explorer in browser.driver.find_elements("css selector", ".reprise-explorer"):
        image, sliders = explorer.find_element("tag name", "img"), explorer.find_elements("tag name", "input")
        words = browser.js("return document.getElementById(arguments[0].getAttribute('aria-describedby'))", image)
        assert len(words.text) > 20
        browser.js("arguments[0].focus()", sliders[0])
        for number, slider in enumerate(sliders):
            if number:
                browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            assert browser.driver.switch_to.active_element == slider
            assert browser.js(
                "const look = getComputedStyle(arguments[0]);"
                "return look.outlineStyle === 'solid' && parseFloat(look.outlineWidth) >= 2",
                slider,
            )
            name, reading = slider.accessible_name, slider.get_attribute("aria-valuetext")
            assert name
            assert f"{name} = {reading}" in image.get_attribute("alt")
            move(browser, slider)
            now = slider.get_attribute("aria-valuetext")  # which a screen reader speaks when it changes
            assert now != reading
            assert f"{name} = {now}" in image.get_attribute("alt")


def test_the_first_tab_offers_to_skip_to_the_text(browser):
    browser.open(CHAPTERS[0])
    browser.driver.find_element("tag name", "body").send_keys(Keys.TAB)
    link = browser.driver.switch_to.active_element
    assert link.text == "Skip to main content"
    assert browser.js("return arguments[0].getBoundingClientRect().top >= 0", link)
    link.send_keys(Keys.ENTER)
    browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.js("return document.querySelector('#main-content').contains(document.activeElement)")


@pytest.mark.parametrize("page", ["book/intro", CHAPTERS[0]])
def test_nothing_moves_for_who_wants_no_motion(browser, page):
    browser.open(page)
    moving = browser.js(
        "const seconds = (text) => Math.max(...text.split(',').map(parseFloat));"
        "return [...document.querySelectorAll('*')].filter((e) => { const look = getComputedStyle(e);"
        " return seconds(look.transitionDuration) > 0.01"
        " || (look.animationName !== 'none' && seconds(look.animationDuration) > 0.01)"
        " || look.scrollBehavior === 'smooth'; }).map((e) => e.tagName + '.' + e.className)"
    )
    assert moving == []


@functools.cache
def read(page: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("page", PAGES)
def test_headings_have_one_order_and_skip_no_level(site, page):
    levels = [int(tag.name[1]) for tag in read(page).select("article :is(h1, h2, h3, h4, h5, h6)")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(lower - upper <= 1 for upper, lower in zip(levels, levels[1:])), levels


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_words_and_every_table_names_its_columns(site, page):
    for image in read(page).select("article img"):
        words = image.get("alt", "")
        assert len(words) > (0 if image.get("aria-describedby") else 20), f"a picture says only {words!r}"
    for table in read(page).select("article table"):
        heads = table.select("thead th") or table.select("tr:first-child th")
        assert heads, f"no header: {table.get_text(' ', strip=True)[:80]}"


@pytest.mark.parametrize("page", ["book/how-we-judge", CHAPTERS[0]])
def test_print_shows_the_text_alone(browser, page):
    browser.open(page, theme="dark")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = "return [...document.querySelectorAll(arguments[0])].some((e) => e.checkVisibility())"
        for kept_back in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".reprise-sliders"):
            assert not browser.js(shown, kept_back), f"{kept_back} is printed"
        ink, paper = browser.js(
            "return [getComputedStyle(document.querySelector('article p')).color,"
            " getComputedStyle(document.body).backgroundColor]"
        )
        assert lightness(paper) > 0.95 or "rgba(0, 0, 0, 0)" in paper
        assert lightness(ink) < 0.3, "gray on white"
        clipped = "return [...document.querySelectorAll('pre')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        assert browser.js(clipped) == 0, "code is cut off at the margin"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def lightness(color: str) -> float:
    """Mean of red, green and blue of a computed color, 0 to 1."""
    return sum(float(number) for number in re.findall(r"[\d.]+", color)[:3]) / 3 / 255


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


# --- what leads somewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", CHAPTERS)
def test_launch_links_open_the_executed_notebook(browser, page):
    browser.open(page)
    owner, name = repository()
    links = browser.js("return [...document.querySelectorAll('.article-header-buttons a')].map((link) => link.href)")
    assert f"https://colab.research.google.com/github/{owner}/{name}/blob/main/{page}.ipynb" in links
    assert f"https://mybinder.org/v2/gh/{owner}/{name}/main?urlpath=lab/tree/{page}.ipynb" in links
    assert (ROOT / f"{page}.ipynb").is_file()


@pytest.mark.parametrize("how", ["served", "opened as a file", "on a phone"])
def test_scoreboard_filter_narrows_the_claims(browser, how):
    page = file_address("book/scoreboard") if how == "opened as a file" else "book/scoreboard"
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
