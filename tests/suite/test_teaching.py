"""The Sphinx extension for teachers, on a small site: reading paths rendered, and solutions gone where they must be."""

import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.testing.util import SphinxTestApp
from tiny import card, chapter, fence, make_house

from reprise.suite.execution import write_notebook

EXERCISES = (
    "\n\n## Exercises\n\n```{exercise-start}\n:label: tiny-why\n```\nAsk the ostrich.\n```{exercise-end}\n```\n\n"
    "```{solution-start} tiny-why\n:class: dropdown\n```\nBecause of the quokka.\n\n"
    + fence("answer = 'wombat'\nanswer")
    + "\nSo says the echidna.\n```{solution-end}\n```\n\n## Next\n\nThe numbat.\n"
)
SECRETS = ("quokka", "wombat", "echidna", "solution")
PATH = """\
whom: You & me.
goal: See.
prerequisites: None.
sessions:
  - {title: Begin, read: [tiny], assign: [tiny-why], discuss: "Is 1 < 2?"}
  - {title: Go on, read: [later], optional: true, discuss: "Why?", instead: {use: tiny, to: read it twice.}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository with one written chapter, one that is not, and a path through both."""
    house = make_house(tmp_path_factory.mktemp("house"), {"tiny": chapter("tiny") + EXERCISES})
    root = house.root
    (house.cards / "memory/later.yml").write_text(
        card("later").replace("Tiny", "Later").replace("''", "'2345.6789'", 1)
    )
    (root / "book/paths").mkdir()
    (root / "book/paths/one.yml").write_text(PATH)
    notebook = jupytext.read(house.source("memory", "tiny"))
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        if "wombat" in cell.source:
            cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "'wombat'"}, execution_count=1)]
    write_notebook(house.notebook("memory", "tiny"), notebook)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0.1"\n[project.urls]\nRepository = "https://github.com/some-owner/some-name"\n'
    )
    (root / "book/references.bib").write_text("")
    (root / "CITATION.cff").write_text('title: The Book\nauthors: [{name: The Authors}]\nversion: "0.1"\n')
    (root / "index.md").write_text(
        "# Start\n\n```{reading-path} one\n```\n\n```{toctree}\nnotebooks/memory/tiny\n```\n"
    )
    (root / "conf.py").write_text(
        "extensions = ['myst_nb', 'sphinx_exercise', 'reprise.suite.teaching']\n"
        "html_theme = 'sphinx_book_theme'\nexclude_patterns = ['_build', 'book']\nnb_execution_mode = 'off'\n"
        # said here, because extensions write into Sphinx's default, which the next application of a process inherits
        "source_suffix = {'.rst': 'restructuredtext', '.md': 'myst-nb', '.ipynb': 'myst-nb'}\n"
        "html_theme_options = {'use_download_button': True, 'launch_buttons': {'colab_url': 'https://colab.site'},\n"
        "                      'repository_url': 'https://github.com/some-owner/some-name'}\n"
    )
    return root


def build(root: Path, **settings) -> Path:
    """The folder of the built site; fails on any warning."""
    shutil.rmtree(root / "_build", ignore_errors=True)
    app = SphinxTestApp("html", srcdir=root, builddir=root / "_build", confoverrides=settings)
    try:
        app.build()
        assert app.warning.getvalue() == ""
        return Path(app.outdir)
    finally:
        app.cleanup()


def texts(site: Path) -> dict[str, str]:
    """Everything that a reader can load of the site's own content, the theme's static files aside."""
    return {
        str(path.relative_to(site)): path.read_text(encoding="utf-8", errors="replace")
        for path in site.rglob("*")
        if path.is_file() and "_static" not in path.parts
    }


def test_without_solutions_no_file_of_the_site_has_one(root):
    site = build(root, reprise_solutions=False)
    files = texts(site)
    assert "_sources/notebooks/memory/tiny.ipynb" in files
    assert "searchindex.js" in files
    for name, text in files.items():
        for secret in SECRETS:
            assert secret not in re.sub(r"class=\"[^\"]*\"|solution-|solutions", "", text.lower()), (
                f"{secret} in {name}"
            )
    for kept in ("ostrich", "numbat"):
        assert kept in files["notebooks/memory/tiny.html"]
        assert kept in files["searchindex.js"]
        assert kept in files["_sources/notebooks/memory/tiny.ipynb"]
    nbformat.validate(nbformat.reads(files["_sources/notebooks/memory/tiny.ipynb"], as_version=4))


def test_without_solutions_the_download_is_the_cut_notebook_and_nothing_opens_another(root):
    site = build(root, reprise_solutions=False)
    page = BeautifulSoup((site / "notebooks/memory/tiny.html").read_text(encoding="utf-8"), "html.parser")
    links = [link["href"] for link in page.select("a[href]")]
    assert "../../_sources/notebooks/memory/tiny.ipynb" in links
    assert not [link for link in links if "colab" in link or "binder" in link]


def test_by_default_solutions_and_launch_buttons_are_there(root):
    site = build(root)
    page = (site / "notebooks/memory/tiny.html").read_text(encoding="utf-8")
    for shown in ("quokka", "wombat", "echidna", "colab.site"):
        assert shown in page
    for kept in ("_sources/notebooks/memory/tiny.ipynb", "searchindex.js"):
        assert "quokka" in (site / kept).read_text(encoding="utf-8")


def test_a_path_links_what_is_written_and_says_plainly_what_is_not(root):
    page = BeautifulSoup((build(root) / "index.html").read_text(encoding="utf-8"), "html.parser")
    first, second = page.select("table.reprise-path tbody")
    assert "Week 1. Begin" in first.text
    assert [link["href"] for link in first.select("a")] == [
        "notebooks/memory/tiny.html",
        "notebooks/memory/tiny.html#tiny-why",
    ]
    assert "Is 1 < 2?" in first.text
    assert "Until then" not in first.text
    assert "not written yet" not in first.text
    assert "not written yet" in second.text
    assert "optional" in second.text
    assert "https://arxiv.org/abs/2345.6789" in [link["href"] for link in second.select("a")]
    assert "Until then. Use Tiny: read it twice." in second.text
    facts = page.select_one("dl.reprise-header").text
    assert "You & me." in facts
    assert "1 of 2 chapters" in facts
    assert "1 weeks without" in facts
    assert "reprise export --nbgrader tiny" in facts


def test_hours_are_reading_time_and_exercises(root):
    page = BeautifulSoup((build(root) / "index.html").read_text(encoding="utf-8"), "html.parser")
    hours = [small.text for small in page.select(".reprise-session small")]
    # a chapter of a few words is 5 minutes, one exercise 45; an unwritten one 30 and two exercises
    assert hours == ["about 1 h at home", "about 2 h at home"]
    assert "about 3 h of reading" in page.select_one("dl.reprise-header").text
    link = page.select_one("table.reprise-path a[href$='#tiny-why']")
    target = BeautifulSoup((root / "_build/html/notebooks/memory/tiny.html").read_text(encoding="utf-8"), "html.parser")
    assert target.find(id=link["href"].split("#")[1]), "the exercise's link leads nowhere"
