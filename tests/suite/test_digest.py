"""Fresh or stale: what changes the digest, and what must not."""

import textwrap

import pytest

from reprise.suite.catalogue import Claim, find_card
from reprise.suite.digest import digest, reached_modules
from reprise.suite.errors import RepriseError

CELLS = ["from reprise.memory import method\n", "x = method.f(2)  # a comment\n"]


@pytest.fixture
def package(tmp_path):
    """A package in which memory.method reaches blocks.deep through blocks.near, and nobody reaches blocks.far."""
    files = {
        "__init__.py": "",
        "memory/__init__.py": "",
        "memory/method.py": (
            '"""Doc."""\nfrom reprise.blocks import near\n\ndef f(x):\n    """Doc."""\n    return near.g(x)\n'
        ),
        "blocks/__init__.py": "",
        "blocks/near.py": "from .deep import h\n\ndef g(x):\n    return h(x)\n",
        "blocks/deep.py": "def h(x):\n    return x + 1\n",
        "blocks/far.py": "def far(x):\n    return x\n",
        "suite/__init__.py": "def slide(x):\n    return x\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def before(package):
    return digest(find_card("modern-hopfield"), CELLS, package)


def after(package, cells=CELLS, card=None):
    return digest(card or find_card("modern-hopfield"), cells, package)


def test_reaches_modules_through_modules(package):
    names = {p.relative_to(package).as_posix() for p in reached_modules(CELLS[0], package)}
    assert names == {
        "__init__.py",
        "memory/__init__.py",
        "memory/method.py",
        "blocks/__init__.py",
        "blocks/near.py",
        "blocks/deep.py",
    }


@pytest.mark.parametrize("name", ["memory/method.py", "blocks/near.py", "blocks/deep.py"])
def test_code_of_a_reached_module_makes_a_chapter_stale(package, before, name):
    path = package / name
    path.write_text(path.read_text().replace("return ", "return 2 * "))
    assert after(package) != before


def test_code_that_is_not_reached_does_not(package, before):
    (package / "blocks/far.py").write_text("def far(x):\n    return 7\n")
    assert after(package) == before


def test_comments_docstrings_and_layout_do_not(package, before):
    path = package / "memory/method.py"
    path.write_text(
        textwrap.dedent('''
            """A much better sentence."""
            from reprise.blocks import near  # why


            def f(x):
                """Another sentence."""
                # and a reason
                return near.g(
                    x
                )
            ''')
    )
    assert after(package) == before
    assert after(package, [CELLS[0], "x = method.f( 2 )\n"]) == before


def test_a_changed_cell_makes_a_chapter_stale(package, before):
    assert after(package, [CELLS[0], "x = method.f(3)"]) != before
    assert after(package, CELLS[::-1]) != before


def test_a_changed_margin_makes_a_chapter_stale(package, before):
    card = find_card("modern-hopfield")
    claims = list(card.claims)
    claims[0] = Claim(**{**vars(claims[0]), "margin": claims[0].margin / 2})
    assert after(package, card=type(card)(**{**vars(card), "claims": tuple(claims)})) != before


def test_magics_count_and_do_not_break_the_reading(package, before):
    first = after(package, [*CELLS, "%matplotlib inline"])
    assert first != before
    assert after(package, [*CELLS, "%matplotlib svg"]) != first


def test_python_that_does_not_parse_is_named(package):
    with pytest.raises(RepriseError, match="code cell 2 of modern-hopfield, line 1"):
        digest(find_card("modern-hopfield"), [CELLS[0], "x = ("], package)


def test_chapters_reach_what_the_suite_loads_late():
    names = {p.name for p in reached_modules("from reprise.suite import begin")}
    assert {"chapter.py", "plots.py", "explorers.py", "source.py", "evidence.py"} <= names
    assert not {"runner.py", "cli.py", "execution.py", "audit.py"} & names


@pytest.mark.parametrize(("profile", "changes"), [("quick", True), ("full", False)])
def test_the_machinery_that_draws_pages_counts_for_quick_runs_alone(package, profile, changes):
    cells = [*CELLS, "from reprise.suite import slide\n"]

    def stamp():
        return digest(find_card("modern-hopfield"), cells, package, profile)

    before = stamp()
    (package / "suite/__init__.py").write_text("def slide(x):\n    return 2 * x\n")
    assert (stamp() != before) == changes


def test_the_method_counts_for_full_runs_too(package):
    before = digest(find_card("modern-hopfield"), CELLS, package, "full")
    path = package / "blocks/deep.py"
    path.write_text(path.read_text().replace("return ", "return 2 * "))
    assert digest(find_card("modern-hopfield"), CELLS, package, "full") != before
