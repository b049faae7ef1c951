"""The Sphinx extension, on a small site: what stands on its pages follows from cards and records."""

import base64
import html
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from PIL import Image
from sphinx.testing.util import SphinxTestApp

from reprise.suite import frames, pages, plots

ADDRESS = "https://github.com/some-owner/some-name"
CARD = """\
slug: {slug}
part: memory
title: "{title}"
authors: ["Ada A.", "Bo B.", "et al."]
year: 2020
venue: "Venue"
arxiv: "{arxiv}"
code: ""
needs: [{needs}]
claims:
  - {{id: first, says: "A < B & C.", paper: "not known", where: p, effect: e, unit: u, margin: 0.5, profile: quick}}
  - {{id: second, says: Second., paper: "+3", where: p, effect: e, unit: u, margin: 0, profile: full}}
  - {{id: third, says: Third., paper: "+9", where: abstract, out_of_reach: "needs a planet"}}
"""
ENTRY = {"claim": "first", "effects": [1.0, 1.2, 0.9, 1.1, 1.3], "mean": 1.1, "low": 0.9, "high": 1.3, "margin": 0.5}
RECORD = {
    "device": "CPU, 1 thread",
    "seconds": 41.0,
    "first_seed": 100,
    "evidence": [ENTRY | {"verdict": "reproduced"}],
}


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with one written chapter and one that is planned."""
    cards, book, notebooks = tmp_path / "lib/reprise/memory", tmp_path / "book", tmp_path / "notebooks/memory"
    for folder in (cards, book, notebooks):
        folder.mkdir(parents=True)
    (cards / "written_one.yml").write_text(
        CARD.format(slug="written-one", title="The <Written> One", arxiv="1234.5678", needs="")
    )
    (cards / "planned_one.yml").write_text(
        CARD.format(slug="planned-one", title="The Planned One: A Plan", arxiv="2345.6789", needs="written-one")
    )
    (book / "references.bib").write_text(
        "@article{other2019x, title = {Other}, author = {Other, O.}, year = {2019}, eprint = {9999.9999}}\n"
    )
    (tmp_path / "CITATION.cff").write_text(
        'cff-version: 1.2.0\ntitle: "The Book"\nauthors: [{name: "The Authors"}]\nversion: "0.1"\n'
    )
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "x"\nversion = "0.1"\n[project.urls]\nRepository = "{ADDRESS}"\n'
    )
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_parser', 'reprise.suite.pages']\n"
        "html_theme = 'sphinx_book_theme'\nexclude_patterns = ['_build']\n"
    )
    (tmp_path / "index.md").write_text(
        "# Start\n\n```{tally}\n```\n\n```{scoreboard}\n```\n\n```{part-list} memory\n```\n\n"
        "```{summary}\n```\n\n```{map}\n```\n\n```{map}\n:compact:\n```\n\n"
        "```{shell}\ngit clone ADDRESS x\n```\n\n```{citation}\n```\n\n{verdict}`weaker`\n\n"
        "```{toctree}\nnotebooks/memory/written-one\n```\n"
    )
    # a page in place of the notebook, with the record beside it: the extension only asks whether the page exists
    (notebooks / "written-one.md").write_text("# The Written One\n")
    save_record(tmp_path, RECORD)
    return tmp_path


def save_record(root: Path, record: dict) -> None:
    path = root / "notebooks/memory/written-one.ipynb"
    path.write_text(json.dumps({"metadata": {"reprise": record}, "cells": [], "nbformat": 4, "nbformat_minor": 5}))


def build(root: Path, fresh: bool = True) -> str:
    """The front page's HTML; fails on any warning."""
    if fresh:
        shutil.rmtree(root / "_build", ignore_errors=True)
    app = SphinxTestApp("html", srcdir=root, builddir=root / "_build")
    try:
        app.build()
        assert app.warning.getvalue() == ""
        return (Path(app.outdir) / "index.html").read_text(encoding="utf-8")
    finally:
        app.cleanup()


def row(page: str, claim: str) -> str:
    return re.search(rf'<tr id="written-one--{claim}".*?</tr>', page, re.S).group()


def test_scoreboard_shows_figure_interval_and_verdict_of_every_claim(root):
    page = build(root)
    first = row(page, "first")
    assert "A &lt; B &amp; C." in first
    assert "not known" in first
    assert "<strong>1.1</strong>" in first
    assert "[0.9, 1.3]" in first
    assert "✓ reproduced" in first
    assert 'data-verdict="reproduced"' in first
    assert 'data-verdict="not yet run"' in row(page, "second")
    assert "decided by the full run" in row(page, "second")
    assert "needs a planet" in row(page, "third")


def test_claim_decided_by_the_full_run_takes_its_verdict_from_there(root):
    entries = [ENTRY | {"verdict": "weaker"}, ENTRY | {"claim": "second", "verdict": "contradicted"}]
    folder = root / "data/evidence"
    folder.mkdir(parents=True)
    (folder / "written-one.full.json").write_text(json.dumps(RECORD | {"evidence": entries}))
    page = build(root)
    assert 'data-verdict="contradicted"' in row(page, "second")
    assert 'data-verdict="reproduced"' in row(page, "first")  # registered for the quick run
    assert "weaker" in row(page, "first")


def test_tally_counts_written_chapters_and_their_claims_only(root):
    tally = re.search(r'<p class="reprise-tally">.*?</p>', build(root), re.S).group()
    assert "1 of 2 chapters are written, with 3 claims" in tally
    assert "✓ 1 reproduced" in tally


def test_part_list_links_written_chapters_and_says_plainly_what_is_not_written(root):
    page = build(root)
    assert '<a href="notebooks/memory/written-one.html">The &lt;Written&gt; One</a>' in page
    assert "not written yet" in page
    planned = re.search(r'<ul class="reprise-planned">.*?</ul>', page, re.S).group()
    assert "The Planned One" in planned
    assert "Ada A. et al." in planned
    assert "Written" not in planned


def test_pages_follow_a_changed_record_without_a_fresh_build(root):
    assert "✓ reproduced" in row(build(root), "first")
    save_record(root, RECORD | {"evidence": [ENTRY | {"verdict": "inconclusive"}]})
    assert "? inconclusive" in row(build(root, fresh=False), "first")


def test_every_page_is_written_again_when_order_or_titles_change_and_only_then():
    class Environment:
        found_docs = {"a", "b"}
        titles = {"a": nodes.title("", "A"), "b": nodes.title("", "B")}
        relations = {"a": [None, None, "b"], "b": [None, "a", None]}

        def collect_relations(self):
            return self.relations

    env = Environment()
    renew = partial(pages._write_all_in_a_new_order, None, env)
    assert renew() == []
    assert renew() == []
    env.relations = {"a": [None, None, "c"], "b": [None, "c", None]}
    assert sorted(renew()) == ["a", "b"]
    assert renew() == []
    env.titles = env.titles | {"b": nodes.title("", "New")}
    assert sorted(renew()) == ["a", "b"]


def test_address_comes_from_pyproject_into_commands_citation_and_sitemap(root):
    page = build(root)
    assert f"clone {ADDRESS} x" in re.sub(r"<[^>]+>", "", page)
    assert f'url = "{ADDRESS}"' in html.unescape(re.sub(r"<[^>]+>", "", page))
    tree = ElementTree.parse(root / "_build/html/sitemap.xml")
    places = {element.text for element in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")}
    assert places == {
        f"https://some-owner.github.io/some-name/{name}.html" for name in ("index", "notebooks/memory/written-one")
    }


def test_verdict_role_makes_a_chip(root):
    assert '<span class="reprise-verdict reprise-weaker">≳ weaker</span>' in build(root)


def test_unknown_part_is_an_error_that_names_the_parts(root):
    (root / "index.md").write_text("# Start\n\n```{part-list} memry\n```\n")
    with pytest.raises(AssertionError, match="there is no part 'memry'; choose one of dynamics"):
        build(root)


def dot(color: str) -> bytes:
    """A WebP of 6 x 3 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 3), color).save(buffer, "webp", lossless=True)
    return buffer.getvalue()


FRAMES = [dot(color) for color in ("red", "green", "blue", "black")]


def notebook_with(words: str = "Move &amp; see.", classes: tuple[str, ...] = ("reprise-explorer",)) -> dict:
    """An executed notebook whose one cell shows an explorer with two sliders of two positions."""

    def model(name, state, **more):
        return {"model_name": f"{name}Model", "state": state} | more

    def refer(*names):
        return [f"IPY_MODEL_{name}" for name in names]

    def image(data):
        buffer = {"data": base64.b64encode(data).decode(), "encoding": "base64", "path": ["value"]}
        return model("Image", {"format": "webp"}, buffers=[buffer])

    slider = {"_options_labels": ["1", "2"], "index": 1}
    state = {
        "box": model("VBox", {"_dom_classes": list(classes), "children": refer("s", "t", "stack", "words")}),
        "s": model("SelectionSlider", slider | {"description": "β"}),
        "t": model("SelectionSlider", slider | {"description": "a < b", "index": 0}),
        "stack": model("Stack", {"children": refer("one", "two")}),
        "one": model("Stack", {"children": refer("f0", "f1")}),
        "two": model("Stack", {"children": refer("f2", "f3")}),
        "words": model("HTML", {"value": f'<p class="reprise-explorer-alt">{words}</p>'}),
    } | {f"f{i}": image(frame) for i, frame in enumerate(FRAMES)}
    data = {frames.VIEW: {"model_id": "box"}, "text/plain": "VBox()"}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "explore(...)"}
    cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": data}]
    title = {"cell_type": "markdown", "metadata": {}, "source": "# The Written One"}
    figures = [plots.Picture(frame, "webp", 6, 3, "What is seen.", "What to see.") for frame in FRAMES[:2]]
    cell["outputs"] += [
        {"output_type": "display_data", "metadata": {}, "data": figure._repr_mimebundle_()} for figure in figures
    ]
    metadata = {"reprise": RECORD, "language_info": {"name": "python"}, "widgets": {frames.STATE: {"state": state}}}
    return {"metadata": metadata, "cells": [title, cell], "nbformat": 4, "nbformat_minor": 4}


def test_explorer_of_an_executed_notebook_is_read_frame_by_frame():
    (explorer,) = frames.read_explorers(notebook_with()).values()
    assert explorer.sliders == [frames.Slider("β", ["1", "2"], 1), frames.Slider("a < b", ["1", "2"], 0)]
    assert [frame.data for frame in explorer.frames] == FRAMES
    assert explorer.opens_at == 2
    assert explorer.words == "Move &amp; see."
    assert frames.read_explorers({"metadata": {}, "cells": []}) == {}
    assert frames.read_explorers(notebook_with(classes=())) == {}


def build_notebook(root: Path, notebook: dict) -> BeautifulSoup:
    (root / "notebooks/memory/written-one.md").unlink()
    (root / "notebooks/memory/written-one.ipynb").write_text(json.dumps(notebook))
    configuration = (root / "conf.py").read_text().replace("myst_parser", "myst_nb")
    configuration += "nb_execution_mode = 'off'\nnb_ipywidgets_js = {}\n"
    configuration += "source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}\n"
    (root / "conf.py").write_text(configuration)
    build(root)
    return BeautifulSoup((root / "_build/html/notebooks/memory/written-one.html").read_text(), "html.parser")


def test_explorer_of_a_chapter_becomes_images_and_range_inputs_and_its_widget_state_stays_behind(root):
    page = build_notebook(root, notebook_with())
    (figure,) = page.select("figure.reprise-explorer")
    sources = json.loads(figure["data-frames"])
    folder = root / "_build/html/notebooks/memory"
    assert [(folder / source).read_bytes() for source in sources] == FRAMES
    image = figure.img
    assert (image["src"], image["alt"]) == (sources[2], "β = 2, a < b = 1")
    assert (image["width"], image["height"]) == ("4", "2")  # drawn 1.5 times as large as shown
    assert page.find(id=image["aria-describedby"]).text == "Move & see."
    labels = {page.find(id=label["for"])["value"]: label.text for label in figure.select("label")}
    assert labels == {"1": "β", "0": "a < b"}
    assert "jupyter.widget" not in str(page)


def test_figures_of_a_chapter_become_files_fetched_when_needed(root):
    page = build_notebook(root, notebook_with())
    first, second = page.select("figure.reprise-figure img")
    folder = root / "_build/html/notebooks/memory"
    assert [(folder / image["src"]).read_bytes() for image in (first, second)] == FRAMES[:2]
    assert (first.get("loading"), second["loading"]) == (None, "lazy")
    assert second["alt"] == "What is seen."


def test_widget_that_needs_a_kernel_is_a_warning(root):
    with pytest.raises(AssertionError, match="a widget that is no explorer needs a kernel"):
        build_notebook(root, notebook_with(classes=()))
