"""Map, claims as data, citations and cards for links: on the small site of test_pages and on the real catalogue."""
# ruff: noqa: F401, F811 (the fixture `root` is imported)

import csv
import json
import shutil
import tomllib

import jsonschema
import networkx as nx
import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image
from pybtex.database import parse_string
from test_pages import ENTRY, RECORD, build, root, save_record

from reprise.suite import evidence
from reprise.suite.catalogue import PARTS, load_cards
from reprise.suite.errors import RepriseError
from reprise.suite.house import House
from reprise.suite.pages import cite, claims, paper_map, social
from reprise.suite.pages.page import Catalogue

SITE = "https://some-owner.github.io/some-name/"


def soup(root, page: str = "index") -> BeautifulSoup:
    return BeautifulSoup((root / f"_build/html/{page}.html").read_text(encoding="utf-8"), "html.parser")


# --- the map ----------------------------------------------------------------------------------------------------------


def test_map_nests_a_paper_below_the_one_it_needs_and_says_so_in_words(root):
    build(root)
    (parent,) = soup(root).select(".reprise-map li[data-slug=written-one]")
    (child,) = parent.select("li[data-slug=planned-one]")
    assert parent.find("a")["href"] == "notebooks/memory/written-one.html"
    assert child.find("a")["href"] == "book/memory/index.html#planned-one"
    assert (child["data-before"], parent["data-after"]) == ("written-one", "planned-one")
    described = {item["data-slug"]: item.find(id=item.find("a")["aria-describedby"]).text for item in (parent, child)}
    assert "✓ 1 reproduced" in described["written-one"]
    assert "Leads to: The Planned One." in described["written-one"]
    assert "Not written yet." in described["planned-one"]
    assert "Builds on: The <Written> One." in described["planned-one"]


def test_compact_map_counts_written_chapters_in_dots_and_in_words(root):
    build(root)
    rows = {row.find("a").text: row for row in soup(root).select(".reprise-map-small li")}
    assert list(rows) == list(PARTS.values())
    memory = rows[PARTS["memory"]]
    assert len(memory.select(".reprise-dot")) == 2
    assert len(memory.select(".is-written")) == 1
    assert memory.select_one(".reprise-unseen").text == "1 of 2 chapters written"


def test_every_card_stands_on_the_map_once_below_what_it_needs_in_its_part():
    cards = load_cards()
    needs = paper_map.graph(cards)
    below = paper_map.forest(cards, needs)
    assert sorted(slug for slugs in below.values() for slug in slugs) == sorted(cards)
    for parent, slugs in below.items():
        for slug in slugs:
            own = [needed for needed in cards[slug].needs if cards[needed].part == cards[slug].part]
            assert parent == (own[0] if own else cards[slug].part)
    assert {edge for edge in needs.edges} == {(needed, s) for s, card in cards.items() for needed in card.needs}
    assert all(nx.descendants(needs, slug).isdisjoint(nx.ancestors(needs, slug)) for slug in cards)


def test_papers_that_need_each_other_in_a_circle_are_named(root):
    path = root / "lib/reprise/memory/written_one.yml"
    path.write_text(path.read_text().replace("needs: []", "needs: [planned-one]"))
    with pytest.raises(RepriseError, match="in a circle: .*-one → .*-one → .*; drop one"):
        paper_map.graph(load_cards(House(root)))


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("Grokking Tickets: Lottery Tickets Accelerate Grokking", "Grokking Tickets"),
        ("What needs to go right? A study", "What needs to go right?"),
        ("An Exit for a Network : JEI", "An Exit for a Network"),
        ("Nothing to cut", "Nothing to cut"),
    ],
)
def test_short_title_ends_at_colon_or_question_mark(title, short):
    assert paper_map.short_title(title) == short


# --- claims as data ---------------------------------------------------------------------------------------------------


def test_summary_counts_verdicts_by_part_and_links_to_those_claims(root):
    build(root)
    every, memory = soup(root).select(".reprise-summary tbody tr")
    assert (every.find("th").text, memory.find("th").text) == ("All parts", PARTS["memory"])
    assert [cell.text for cell in memory.select("td[data-name]")] == ["1", "3"]
    bars = {bar["title"]: bar["href"] for bar in memory.select(".reprise-bar a")}
    assert bars == {
        "1 reproduced": "?part=memory&verdict=reproduced#claims",
        "1 out of reach": "?part=memory&verdict=out+of+reach#claims",
        "1 not yet run": "?part=memory&verdict=not+yet+run#claims",
    }


def test_tally_leads_to_the_claims_of_each_verdict(root):
    build(root)
    links = {link.text: link["href"] for link in soup(root).select(".reprise-tally a")}
    assert links["✓ 1 reproduced"] == "book/scoreboard.html?verdict=reproduced#claims"


def test_csv_and_json_say_what_the_records_say_of_every_claim_of_written_chapters(root):
    build(root)
    content = json.loads((root / "_build/html/claims.json").read_text(encoding="utf-8"))
    first, second, third = content["claims"]
    recorded = RECORD["evidence"][0]
    for name in ("effects", "mean", "low", "high", "verdict"):
        assert first[f"quick_{name}"] == recorded[name]
    assert (first["quick_seeds"], first["quick_first_seed"], first["full_verdict"]) == (5, 100, None)
    assert first["link"] == f"{SITE}book/scoreboard.html#written-one--first"
    assert [claim["verdict"] for claim in content["claims"]] == ["reproduced", "not yet run", "out of reach"]
    assert (second["decided_by"], third["out_of_reach"]) == ("full", "needs a planet")
    with open(root / "_build/html/claims.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, claim in zip(rows, content["claims"], strict=True):
        effects = claim.pop("quick_effects")
        assert row.pop("quick_effects") == ("" if effects is None else "1.0 1.2 0.9 1.1 1.3")
        assert row == {name: "" if claim.get(name) is None else str(claim[name]) for name in row}


def test_every_column_of_the_data_is_explained_where_it_is_offered(root):
    build(root)
    page, content = soup(root), json.loads((root / "_build/html/claims.json").read_text(encoding="utf-8"))
    explained = [term.text for term in page.select(".reprise-downloads dt")]
    assert explained == list(content["columns"]) == list(content["claims"][0])
    assert [link["href"] for link in page.select(".reprise-downloads a[download]")] == ["claims.csv", "claims.json"]


def test_data_rows_of_the_real_records_agree_with_their_verdict_rule():
    catalogue = Catalogue(House.here())
    judged = 0
    for card in catalogue.cards.values():
        for claim in card.claims:
            row = claims.row(catalogue, card, claim)
            assert tuple(row) == tuple(claims.COLUMNS)
            for run in ("quick", "full"):
                if row[f"{run}_effects"]:
                    found = evidence.weigh(claim, row[f"{run}_effects"])
                    assert row[f"{run}_verdict"] == found.verdict
                    assert row[f"{run}_mean"] == pytest.approx(found.mean)
                    judged += 1
    assert judged > 0


# --- citations --------------------------------------------------------------------------------------------------------


def cited(root) -> dict:
    (block,) = soup(root, "notebooks/memory/written-one").select("#cite-this-chapter pre")
    return dict(parse_string(block.text, "bibtex").entries)


def test_chapter_ends_with_entries_of_its_paper_and_of_itself(root):
    build(root)
    entries = cited(root)
    assert list(entries) == ["written-one", "reprise-written-one"]
    paper, chapter = entries.values()
    assert paper.fields["eprint"] == "1234.5678"
    assert paper.fields["year"] == "2020"
    assert [str(person) for person in paper.persons["author"]] == ["A., Ada", "B., Bo", "others"]
    assert "The <Written> One" in chapter.fields["title"]
    assert chapter.fields["url"] == f"{SITE}notebooks/memory/written-one.html"
    assert "The Book, version 0.1" in chapter.fields["howpublished"]
    assert soup(root, "notebooks/memory/written-one").select('nav a[href="#cite-this-chapter"]')


def test_paper_in_the_bibliography_is_cited_as_it_stands_there(root):
    path = root / "book/references.bib"
    path.write_text(path.read_text().replace("9999.9999", "1234.5678"))
    build(root)
    assert cited(root)["other2019x"].fields["title"] == "Other"


def test_every_card_makes_an_entry_that_bibtex_reads_back():
    house = House.here()
    for card in load_cards().values():
        key, entry = cite.paper(card, house.root / "book/references.bib")
        (read,) = parse_string(cite.bibtex({key: entry}), "bibtex").entries.values()
        assert read.persons["author"], card.slug
        assert read.fields["title"], card.slug
        if card.arxiv:
            assert read.fields["eprint"] == card.arxiv


def test_citation_file_is_valid_and_names_the_version_of_pyproject():
    top, here = House.here().root, House.here().root / "tests/suite/vendor"
    cff = yaml.safe_load((top / "CITATION.cff").read_text(encoding="utf-8"))
    schema = json.loads((here / "cff-schema-1.2.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(cff, default=str)))
    assert cff["version"] == tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


# --- what a link shows elsewhere --------------------------------------------------------------------------------------


def tags(page: BeautifulSoup) -> dict[str, str]:
    return {tag.get("property") or tag["name"]: tag["content"] for tag in page.select("meta[property], meta[name]")}


def test_chapter_has_title_description_and_a_picture_of_its_own(root):
    build(root)
    found = tags(soup(root, "notebooks/memory/written-one"))
    assert found["og:title"] == "The <Written> One"
    assert "Ada A. et al. (2020)" in found["og:description"]
    assert "Of 3 claims: 1 reproduced, 1 out of reach, 1 not yet run." in found["og:description"]
    assert found["description"] == found["og:description"]
    assert found["og:url"] == f"{SITE}notebooks/memory/written-one.html"
    picture = root / "_build/html" / found["og:image"].removeprefix(SITE)
    with Image.open(picture) as image:
        assert image.size == (1200, 630)
    assert picture.stat().st_size < 60_000
    front = tags(soup(root))
    assert front["og:image"] != found["og:image"]
    assert front["og:title"] == "Start"


def test_picture_is_drawn_once_and_again_when_a_verdict_changes(root):
    build(root)
    folder = root / "_build/html/_images/social"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    shutil.rmtree(root / "_build/doctrees")
    build(root, fresh=False)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    save_record(root, RECORD | {"evidence": [ENTRY | {"verdict": "weaker"}]})
    shutil.rmtree(root / "_build/doctrees")
    build(root, fresh=False)
    assert len(list(folder.iterdir())) == len(before) + 1


def test_wrapped_rows_keep_every_word_and_their_width():
    text = "Grokking as the Transition from Lazy to Rich Training Dynamics"
    rows = social.wrap(text, len, 20)
    assert " ".join(rows) == text
    assert all(len(row) <= 20 for row in rows)
    assert social.wrap("incomprehensibilities", len, 5) == ["incomprehensibilities"]


def test_longest_title_with_every_verdict_stays_inside_the_picture(root):
    longest = max((card.title for card in load_cards().values()), key=len)
    image = social.draw(
        House.here().root, longest, "A. Author et al. (2020)", tuple((w, 99) for w in evidence.VERDICTS)
    )
    rows = [y for y in range(630) if len(image.crop((0, y, 1200, y + 1)).getcolors()) > 1]
    gaps = [b - a for a, b in zip(rows, rows[1:])]
    assert image.crop((1160, 0, 1200, 630)).getcolors() == [(40 * 630, (255, 255, 255))]  # nothing runs out
    assert rows[-1] < 620
    assert sum(gap > 8 for gap in gaps) >= 3  # mark, title, authors and verdicts do not overlap


def test_page_without_a_card_is_described_by_its_first_words(root):
    words = "It begins with a chip, {verdict}`weaker`, *and* goes on. " + "Then on and on. " * 20
    (root / "index.md").write_text(f"# Start\n\n{words}\n\n```{{toctree}}\nnotebooks/memory/written-one\n```\n")
    build(root)
    described = tags(soup(root))["og:description"]
    assert described.startswith("It begins with a chip, ≳ weaker, and goes on. Then on and on.")
    assert described.endswith(" …")
    assert len(described) <= 202
