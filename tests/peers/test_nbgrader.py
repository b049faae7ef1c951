"""Exported assignments in the hands of nbgrader itself: released, answered, validated and graded."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.nbgraderformat import read as read_checked
from nbgrader.validator import Validator
from traitlets.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "suite"))
from classroom import class_chapter  # noqa: E402
from tiny import make_house  # noqa: E402

from reprise.suite.cli import main  # noqa: E402

RIGHT = {
    "tiny-double-answer": "import math\ndoubled = tuple(n + n for n in (1, 2, 4))",
    "tiny-square-answer": "squares = [4.01, 16, 64]",  # another type, and within the tolerance
    "tiny-double-words": "I added each to itself.",
    "tiny-square-words": "Times itself.",
}
WRONG = RIGHT | {
    "tiny-double-answer": "import math\ndoubled = [2.0, 4.0, 9.0]",  # runs, and the number is another
    "tiny-square-answer": "squares = {1: float('nan')}",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course in which `right`, `wrong` and `idle` have handed in the tiny chapter, graded by machine."""
    root = tmp_path_factory.mktemp("course")
    with pytest.MonkeyPatch.context() as patch:
        house = make_house(root / "house", {"tiny": class_chapter()})
        patch.setenv("REPRISE_ROOT", str(house.root))
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # it calls alembic by name
        assert main(["export", "--nbgrader", "tiny", "--out", str(root)]) == 0
        config = Config()
        config.CourseDirectory.root = str(root)
        config.CourseDirectory.db_url = f"sqlite:///{root}/gradebook.db"
        api = NbGraderAPI(config=config)
        made = api.generate_assignment("tiny")
        assert made["success"], made
        for student, answers in (("right", RIGHT), ("wrong", WRONG), ("idle", {})):
            hand_in(root, student, answers)
            done = api.autograde("tiny", student)
            assert done["success"], done
    return root


def hand_in(root, student, answers):
    folder = root / "submitted" / student / "tiny"
    folder.mkdir(parents=True)
    notebook = nbformat.read(root / "release/tiny/tiny.ipynb", as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            assert "YOUR" in cell.source or "NotImplementedError" in cell.source
            cell.source = answers[name]
    nbformat.write(notebook, folder / "tiny.ipynb")


def grades(course, student):
    """Points given by machine for each graded cell; None where a person has to grade."""
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        notebook = book.find_submission_notebook("tiny", "tiny", student)
        return {grade.cell.name: grade.auto_score for grade in notebook.grades}


def test_nbgrader_accepts_every_version_of_the_notebook(course):
    for place in ("source/tiny", "release/tiny", "autograded/right/tiny"):
        read_checked(course / place / "tiny.ipynb", as_version=4)


def test_students_get_neither_solutions_nor_hidden_tests(course):
    text = (course / "release/tiny/tiny.ipynb").read_text()
    for secret in ("2 * n for n", "n**2", "quokka", "Twice each", "HIDDEN", "BEGIN SOLUTION", "_references"):
        assert secret not in text
    for kept in ("Double the numbers.", "given = [1.0, 2.0, 4.0]", "report_1 = say(", "YOUR ANSWER HERE"):
        assert kept in text


def test_a_right_answer_gets_every_machine_point_however_it_is_written(course):
    assert grades(course, "right") == {
        "references": 0,
        "tiny-double-report": 1,
        "tiny-double-agreement": 1,
        "tiny-double-words": None,
        "tiny-square-report": 1,
        "tiny-square-agreement": 1,
        "tiny-square-words": None,
        "tiny-why-words": 0,  # left as it was handed out
    }


def test_a_wrong_number_loses_the_agreement_and_nan_the_report_too(course):
    found = grades(course, "wrong")
    assert (found["tiny-double-report"], found["tiny-double-agreement"]) == (1, 0)
    assert (found["tiny-square-report"], found["tiny-square-agreement"]) == (0, 0)


def test_who_does_nothing_gets_nothing(course):
    assert set(grades(course, "idle").values()) == {0}


def test_the_answers_of_a_student_stay_and_locked_cells_are_put_back(course):
    notebook = nbformat.read(course / "autograded/wrong/tiny/tiny.ipynb", as_version=4)
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}
    assert cells["tiny-double-answer"].source == WRONG["tiny-double-answer"]
    assert "_references" in cells["tiny-double-agreement"].source
    error = cells["tiny-double-agreement"].outputs[-1]
    assert (error.ename, error.evalue) == (
        "AssertionError",
        "1 of 1 numbers differ from the reference: 15 is not 14",
    )


def test_the_source_version_passes_its_own_tests(course, tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_ROOT", str(course / "house"))
    complaints = {}
    for version in ("source", "release"):
        shutil.copy(course / version / "tiny/tiny.ipynb", tmp_path / f"{version}.ipynb")
        complaints[version] = Validator(ignore_checksums=True).validate(str(tmp_path / f"{version}.ipynb"))
    assert complaints["source"] == {}
    assert complaints["release"]["failed"], "a blank sheet must not pass"
