"""Assignments for nbgrader: its metadata (schema version 3), solutions only where it cuts them, a source that runs.

tests/peers/test_nbgrader.py hands one out and grades it with nbgrader itself.
"""

import ast
import re

import nbformat
import pytest
from classroom import class_chapter
from nbclient import NotebookClient
from tiny import chapter, make_house

from reprise.suite.assignments import Answer, assignment
from reprise.suite.catalogue import find_card
from reprise.suite.cli import main
from reprise.suite.execution import read_source, written
from reprise.suite.exercises import Exercise, exercises
from reprise.suite.house import House

HOUSE = House.here()
WRITTEN = written(HOUSE)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_ROOT", str(tmp_path))
    return make_house(tmp_path, {"tiny": class_chapter()})


def of(house, slug):
    return assignment(read_source(house, find_card(slug, house)), slug)


def graded(notebook):
    return {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}


def released(notebook):
    """What a student gets of each graded cell, by the rules that nbgrader documents: regions cut, answers emptied."""
    texts = {}
    for name, cell in graded(notebook).items():
        text = re.sub(r"^### BEGIN HIDDEN TESTS.*?^### END HIDDEN TESTS", "", cell.source, flags=re.M | re.S)
        if cell.metadata.nbgrader.solution:
            blank = r"^### BEGIN SOLUTION.*?^### END SOLUTION"
            cut = re.sub(blank, "raise NotImplementedError()", text, flags=re.M | re.S)
            text = cut if cut != text else "YOUR ANSWER HERE"
        texts[name] = text
    return texts


def code_of(code):
    """Statements of a piece of code, each in one canonical form."""
    return [ast.unparse(node) for node in ast.parse(code).body]


@pytest.mark.parametrize("slug", ["tiny", *WRITTEN])
def test_metadata_is_what_schema_version_3_asks_for(slug, made):
    notebook = of(made if slug == "tiny" else HOUSE, slug)
    nbformat.validate(notebook)
    names = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert len(names) == len(set(names))
    for cell in graded(notebook).values():
        meta = cell.metadata.nbgrader
        assert meta.schema_version == 3
        assert re.fullmatch(r"[A-Za-z0-9_-]+", meta.grade_id)
        assert {type(meta[field]) for field in ("grade", "solution", "locked", "task")} == {bool}
        assert ("points" in meta) == meta.grade
        assert meta.cell_type == cell.cell_type
        assert not meta.task
        assert not (meta.locked and meta.solution)
        if cell.cell_type == "markdown":
            assert meta.grade
            assert meta.solution
        if "HIDDEN TESTS" in cell.source:
            assert meta.grade
            assert meta.locked
        if "### BEGIN SOLUTION" in cell.source:
            assert meta.solution


@pytest.mark.parametrize("slug", ["tiny", *WRITTEN])
def test_every_exercise_is_there_and_worth_four_points(slug, made):
    house = made if slug == "tiny" else HOUSE
    notebook = of(house, slug)
    cells, points = graded(notebook), {}
    for name, cell in cells.items():
        label = name.rpartition("-")[0]
        points[label] = points.get(label, 0) + cell.metadata.nbgrader.get("points", 0)
    found = exercises(read_source(house, find_card(slug, house)))
    assert {e.label: 4 for e in found}.items() <= points.items()
    assert sum(points.values()) == 4 * len(found)
    texts = [cell.source for cell in notebook.cells]
    for exercise in found:
        assert exercise.question[0].source in texts
    assert not any("{exercise" in text or "{solution" in text for text in texts)


@pytest.mark.parametrize("slug", ["tiny", *WRITTEN])
def test_students_get_no_line_of_a_solution_but_imports_and_data(slug, made):
    house = made if slug == "tiny" else HOUSE
    cells = released(of(house, slug))
    for exercise in exercises(read_source(house, find_card(slug, house))):
        assert cells[f"{exercise.label}-words"] == "YOUR ANSWER HERE"
        if not exercise.code:
            continue
        left = ast.parse(cells[f"{exercise.label}-answer"]).body
        assert "raise NotImplementedError()" in map(ast.unparse, left)
        for node in left:
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            assert isinstance(node, (ast.Import, ast.ImportFrom, ast.Raise)) or names <= {"torch"}, ast.unparse(node)
    assert not any("HIDDEN" in text or "BEGIN SOLUTION" in text for text in cells.values())


@pytest.mark.parametrize("slug", ["tiny", *WRITTEN])
def test_the_source_version_holds_all_of_a_solutions_code(slug, made):
    house = made if slug == "tiny" else HOUSE
    cells = graded(of(house, slug))
    for exercise in exercises(read_source(house, find_card(slug, house))):
        code = code_of("\n".join(cell.source for cell in exercise.code))
        if not code:
            continue
        answer = code_of(cells[f"{exercise.label}-answer"].source)
        if f"{exercise.label}-report" in cells:
            assert answer == code[:-1]
            code_of(cells[f"{exercise.label}-report"].source)
        else:
            assert answer == code


def test_the_report_is_shown_without_its_conclusion(made):
    report = graded(of(made, "tiny"))["tiny-double-report"].source
    assert "their sum is {math.fsum(doubled):.2f}." in report
    assert "It had to be" not in report


def test_given_data_stay_visible_and_the_rest_is_cut(made):
    answer = released(of(made, "tiny"))["tiny-double-answer"]
    assert "import math\ngiven = [1.0, 2.0, 4.0]\nraise NotImplementedError()" in answer


def answer_to(code, tags=()):
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": list(tags)})
    return Answer.of(Exercise("one", code=[cell]))


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(3):\n    print(n)",  # shows, but as it goes
        "x = [1, 2]\nsum(x)",  # the expression is the whole solution
        "x = f()",
        "%timeit f()",
        "",
    ],
)
def test_a_solution_whose_last_line_reports_nothing_is_graded_by_hand(code):
    assert answer_to(code).report == ""


@pytest.mark.parametrize(
    "report", ['say(f"{x:.1f} m. So it is.")', 'f"{x:.1f} m. So it is."', 'f"{x} and " + " m. So."']
)
def test_a_conclusion_is_cut_wherever_the_report_holds_it(report):
    shown = answer_to(f"x = f()\n{report}").report
    assert "So" not in shown
    assert "m." in shown
    compile(shown, "report", "eval")


def test_an_author_can_ask_for_grading_by_hand():
    code = "x = f()\nx"
    assert answer_to(code).report == "x"
    assert answer_to(code, ["grade-by-hand"]).report == ""


def test_names_that_the_report_makes_itself_are_not_asked_for():
    assert answer_to("found = f()\nfor name in found:\n    g(name)\n[name for name in found]").results == ("found",)


def test_the_source_version_runs_by_itself_and_agrees_with_itself(made):
    notebook = of(made, "tiny")
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    cells = graded(notebook)
    report = cells["tiny-double-report"].outputs[0].data["text/markdown"]
    assert report == "Doubled, their sum is 14.00."
    assert cells["tiny-square-report"].outputs[0].data["text/plain"] == "{2.0: 4.0, 4.0: 16.0, 8.0: 64.0}"


def test_export_writes_a_course_folder_and_says_what_comes_next(made, tmp_path, capsys):
    out = tmp_path / "course"
    assert main(["export", "--nbgrader", "tiny", "--out", str(out)]) == 0
    assert "`nbgrader generate_assignment tiny`" in capsys.readouterr().out
    assert (out / "source/tiny/tiny.ipynb").is_file()
    assert "ExecutePreprocessor.timeout" in (out / "nbgrader_config.py").read_text()
    assert main(["export", "--nbgrader", "--out", str(out)]) == 0, "the same again is no conflict"


def test_export_never_overwrites_what_a_teacher_has_changed(made, tmp_path, capsys):
    out = tmp_path / "course"
    main(["export", "--nbgrader", "tiny", "--out", str(out)])
    for name in ("nbgrader_config.py", "source/tiny/tiny.ipynb"):
        path = out / name
        path.write_text(path.read_text().replace("tiny-why-words", "tiny-why-mine").replace("900", "901"))
    assert main(["export", "--nbgrader", "tiny", "--out", str(out)]) == 1
    assert "delete it, or choose another folder with --out" in capsys.readouterr().err
    assert "tiny-why-mine" in (out / "source/tiny/tiny.ipynb").read_text()
    assert "901" in (out / "nbgrader_config.py").read_text()


def test_a_chapter_without_exercises_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRISE_ROOT", str(tmp_path))
    make_house(tmp_path, {"bare": chapter("bare")})
    assert main(["export", "--nbgrader", "bare"]) == 1
    assert "has no exercise to export" in capsys.readouterr().err
