"""The book as committed: every chapter complete, fresh and judged, and the table of contents the catalogue's."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from reprise.suite.catalogue import PARTS, load_cards
from reprise.suite.evidence import MIN_SEEDS, interval, read_record, verdict
from reprise.suite.execution import state_of, written
from reprise.suite.house import House
from reprise.suite.structure import missing

HOUSE = House.here()
CARDS = load_cards(HOUSE)
WRITTEN = written(HOUSE)
MAX_BYTES = 500_000


def toc_files():
    """Every file that the table of contents names, without suffix."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    found.append(value.removesuffix(".md").removesuffix(".ipynb"))
                walk(value)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(yaml.safe_load((HOUSE.root / "_toc.yml").read_text()))
    return found


def test_the_table_of_contents_holds_every_part_and_every_written_chapter_once():
    files = toc_files()
    assert len(files) == len(set(files))
    expected = {f"notebooks/{card.part}/{card.slug}" for card in WRITTEN.values()}
    assert {name for name in files if name.startswith("notebooks/")} == expected
    assert {f"book/{part}/index" for part in PARTS} <= set(files)
    for name in files:
        assert any((HOUSE.root / f"{name}{suffix}").is_file() for suffix in (".md", ".ipynb")), name


def test_five_files_of_one_name_and_no_orphans():
    slugs = set(CARDS)
    for path in (HOUSE.root / "lib/reprise").glob("*/*.py"):
        if path.parent.name in PARTS and path.name != "__init__.py":
            assert path.stem.replace("_", "-") in WRITTEN, f"{path} belongs to no written chapter"
    for path in (HOUSE.root / "notebooks").glob("*/*.ipynb"):
        assert path.stem in WRITTEN, f"{path} has no source"
    for path in (HOUSE.root / "data/evidence").glob("*.full.json"):
        assert path.name.removesuffix(".full.json") in slugs


@pytest.mark.parametrize("slug", WRITTEN)
def test_a_written_chapter_lacks_nothing(slug):
    assert missing(HOUSE, WRITTEN[slug]) == []


@pytest.mark.parametrize("slug", WRITTEN)
def test_a_committed_notebook_is_fresh_and_ran_without_error(slug):
    card = WRITTEN[slug]
    assert state_of(HOUSE, card) == "fresh", "run `reprise run` and commit the notebook"
    notebook = nbformat.read(HOUSE.notebook(card.part, slug), as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert HOUSE.notebook(card.part, slug).stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize("slug", WRITTEN)
def test_verdicts_on_record_follow_from_the_effects_on_record(slug, profile):
    card, record = WRITTEN[slug], read_record(slug, profile, HOUSE)
    if record is None:
        assert profile == "full", "a quick run must be on record"
        return
    assert record["first_seed"] >= 100
    weighed = {entry["claim"]: entry for entry in record["evidence"]}
    assert set(weighed) == {claim.id for claim in card.claims if claim.is_decidable_at(profile)}
    for entry in weighed.values():
        assert len(entry["effects"]) >= MIN_SEEDS
        mean, low, high = interval(entry["effects"])
        assert (entry["mean"], entry["low"], entry["high"]) == pytest.approx((mean, low, high))
        assert entry["verdict"] == verdict(low, high, entry["margin"])
        if profile == "quick":
            assert entry["margin"] == card.claim(entry["claim"]).margin


@pytest.mark.parametrize("slug", WRITTEN)
def test_every_figure_and_explorer_has_a_text_alternative(slug):
    card = WRITTEN[slug]
    notebook = nbformat.read(HOUSE.notebook(card.part, slug), as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    pictures = [tag for page in pages for tag in re.findall(r"<img[^>]*>", page)]
    assert pictures
    assert all(re.search(r'alt="[^"]{20,}"', tag) for tag in pictures)
    assert not any("image/png" in output.get("data", {}) for output in outputs), "use plots.picture(fig, alt, caption)"


@pytest.mark.parametrize("slug", WRITTEN)
def test_citations_are_in_the_bibliography(slug):
    text = HOUSE.source(WRITTEN[slug].part, slug).read_text()
    keys = {key.strip() for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text) for key in group.split(",")}
    known = set(re.findall(r"^@\w+\{([^,]+),", (HOUSE.root / "book/references.bib").read_text(), flags=re.M))
    assert keys
    assert keys <= known


def test_prerequisites_come_earlier_in_the_catalogue_of_needs():
    """The cards' `needs` have no circle, so that reading paths exist."""
    done: set[str] = set()
    left = dict(CARDS)
    while left:
        ready = [slug for slug, card in left.items() if set(card.needs) <= done]
        assert ready, f"these papers need each other: {sorted(left)}"
        done |= set(ready)
        for slug in ready:
            del left[slug]


def test_the_public_address_stands_in_one_place():
    address = next(
        line for line in (HOUSE.root / "pyproject.toml").read_text().splitlines() if line.startswith("Repository")
    )
    name = re.search(r"github\.com/([\w.-]+/[\w.-]+)\"", address).group(1)
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=HOUSE.root, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("no git here")
    allowed = {"pyproject.toml"}
    for path in (Path(line) for line in tracked.stdout.splitlines()):
        if path.parts[0] == "notebooks" or str(path) in allowed or not (HOUSE.root / path).is_file():
            continue
        if path.suffix in {".py", ".md", ".yml", ".toml", ".cff", ".css", ".js"} and "vendor" not in path.parts:
            assert name not in (HOUSE.root / path).read_text(encoding="utf-8"), f"{path} repeats the address {name}"


def fastest(number):
    seconds = {slug: (read_record(slug, "quick", HOUSE) or {"seconds": 1e9})["seconds"] for slug in WRITTEN}
    return sorted(WRITTEN, key=seconds.get)[:number]


@pytest.mark.parametrize("slug", fastest(2))
def test_a_committed_notebook_runs_as_a_reader_would_run_it(slug, tmp_path):
    """nbval: cell by cell without papermill; cells marked for comparison must print the same again."""
    notebook = HOUSE.notebook(WRITTEN[slug].part, slug)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-cell-timeout=600",
         "--rootdir", str(tmp_path), "-c", "/dev/null", str(notebook)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
