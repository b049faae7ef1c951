"""Chapters as assignments for nbgrader: the whole chapter, its exercises made into cells that are answered and graded.

Each exercise becomes, in nbgrader's words, an *autograded answer* (the solution's code between BEGIN SOLUTION and END
SOLUTION), two *autograder tests* and a *manually graded answer* (the solution's prose). What the tests look at is the
last expression of the solution's code, the report: the student sees it and writes the code that makes it run.
"""

import ast
import copy
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from reprise.suite.catalogue import Card
from reprise.suite.errors import RepriseError
from reprise.suite.execution import read_source, write_notebook
from reprise.suite.exercises import Exercise, exercises, pieces
from reprise.suite.house import House, write_atomically

POINTS = {"report": 1, "agreement": 1, "words": 2}  # without a report, all for the words
BY_HAND = "grade-by-hand"  # tag of a solution's code cell whose numbers depend on the student's own choices

INTRODUCTION = """\
This notebook is the chapter with its exercises to be answered. Run it from the top. Then replace every
`raise NotImplementedError()` by your code and every `YOUR ANSWER HERE` by your words. The cell after your code reports
what you found: it has to run, and what it prints is compared with a reference solution."""

CONFIG = """\
# Read by nbgrader in this folder: source/ holds the assignments with their solutions, release/ what students get.
c = get_config()
c.CourseDirectory.course_id = "reprise"
c.ExecutePreprocessor.timeout = 900  # seconds for one cell; chapters train networks
"""


def export(house: House, cards: list[Card], folder: Path) -> list[Path]:
    """Write the source version of an assignment for each chapter, and nbgrader's settings where there are none.

    Returns:
        The notebooks, `source/<slug>/<slug>.ipynb` in the folder.
    Raises:
        RepriseError: A chapter has no exercise, another notebook is there already, or the disk refuses.
    """
    made = {folder / "source" / card.slug / f"{card.slug}.ipynb": card for card in cards}
    for path, card in made.items():
        notebook = assignment(read_source(house, card), card.slug)
        if path.exists() and nbformat.read(path, as_version=4).cells != notebook.cells:
            raise RepriseError(
                f"{path} differs from what would be exported: delete it, or choose another folder with --out."
            )
        write_notebook(path, notebook)
    if not (folder / "nbgrader_config.py").exists():
        write_atomically(folder / "nbgrader_config.py", CONFIG)
    return list(made)


def assignment(notebook: NotebookNode, slug: str) -> NotebookNode:
    """A chapter's source as the source version of an nbgrader assignment, not executed."""
    found = exercises(notebook)
    if not found:
        raise RepriseError(f"The chapter {slug!r} has no exercise to export: write one, then export again.")
    cells = [nbformat.v4.new_markdown_cell(INTRODUCTION)]
    for piece in pieces(notebook):
        if piece.kind:
            break
        cell = copy.deepcopy(piece.cell)
        cell.source = piece.source.strip()
        if cell.cell_type == "code":  # locked: grading runs the chapter as it was handed out
            _mark(cell, f"chapter-{len(cells):02}", locked=True)
        cells.append(cell)
    answers = {exercise.label: Answer.of(exercise) for exercise in found}
    cells.append(_reference_cell({label: answer for label, answer in answers.items() if answer.code}))
    for number, exercise in enumerate(found, 1):
        cells += _exercise_cells(number, exercise, answers[exercise.label])
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03}"
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": notebook.metadata.kernelspec})


@dataclass(frozen=True)
class Answer:
    """The code of a solution, taken apart."""

    code: str  # all but the report
    marked: str  # the same, with nbgrader's marks around what a student has to write
    report: str  # the last expression, "" where it cannot be graded by machine
    results: tuple[str, ...]  # names that the report needs and the marked code makes

    @classmethod
    def of(cls, exercise: Exercise) -> "Answer":
        code = "\n\n".join(cell.source for cell in exercise.code)
        try:
            statements = ast.parse(code).body
        except SyntaxError:  # a line magic
            return cls(code, f"### BEGIN SOLUTION\n{code}\n### END SOLUTION", "", ())
        if not statements:
            return cls("", "", "", ())
        made = {name for node in statements[:-1] if not _is_given(node) for name in _made(node)}
        last = statements[-1]
        results = tuple(sorted(made & (_read(last) - _stored(last)))) if isinstance(last, ast.Expr) else ()
        by_hand = any(BY_HAND in cell.metadata.get("tags", []) for cell in exercise.code)
        if not results or by_hand:
            return cls(code, _with_marks(code, statements), "", ())
        lines = code.splitlines()
        return cls(
            "\n".join(lines[: last.lineno - 1]),
            _with_marks("\n".join(lines[: last.lineno - 1]), statements[:-1]),
            _without_conclusion("\n".join(lines[last.lineno - 1 : last.end_lineno]), last.value),
            results,
        )


def _is_given(node: ast.stmt) -> bool:
    """True for what a student need not find out: imports, and data made of constants (`torch.tensor([1.0, 0.02])`)."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    return isinstance(node, ast.Assign) and _read(node.value) <= {"torch"}


def _read(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _without_conclusion(source: str, report: ast.expr) -> str:
    """The report's source without the sentences after its last number: what it means is the student's to say."""
    whole = copy.deepcopy(report)
    node = whole.args[0] if isinstance(whole, ast.Call) and len(whole.args) == 1 else whole
    while not isinstance(node, ast.Constant):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            node = node.right
        elif isinstance(node, ast.JoinedStr) and node.values:
            node = node.values[-1]
        else:
            return source
    sentence, stop, rest = node.value.partition(". ") if isinstance(node.value, str) else ("", "", "")
    if not rest:
        return source
    node.value = sentence + stop.strip()
    return ast.unparse(whole)


def _made(node: ast.AST) -> set[str]:
    """Names that a statement assigns, or changes by `x[...] = ...` or `x.append(...)`."""
    made = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call):
            n = n.value.func
        elif not isinstance(getattr(n, "ctx", None), ast.Store):
            if isinstance(n, (ast.FunctionDef, ast.ClassDef)):
                made.add(n.name)
            continue
        while isinstance(n, (ast.Attribute, ast.Subscript)):
            n = n.value
        if isinstance(n, ast.Name):
            made.add(n.id)
    return made


def _with_marks(code: str, statements: list[ast.stmt]) -> str:
    """The code with BEGIN SOLUTION and END SOLUTION around each run of statements that are not given."""
    lines, marked, is_inside, start = code.splitlines(), [], False, 0
    for node in statements:
        if _is_given(node) == is_inside:
            marked.append("### END SOLUTION" if is_inside else "### BEGIN SOLUTION")
            is_inside = not is_inside
        for line in lines[start : node.end_lineno]:
            if line.strip() or (is_inside and not marked[-1].startswith("###")):
                marked.append(line)
        start = node.end_lineno
    return "\n".join([*marked, *(["### END SOLUTION"] if is_inside else [])])


# --- cells in nbgrader's format ---------------------------------------------------------------------------------------


def _mark(cell: NotebookNode, name: str, points: float | None = None, solution=False, locked=False) -> NotebookNode:
    """Give a cell nbgrader's metadata, schema version 3; `points` where it is graded."""
    cell.metadata["nbgrader"] = {
        "schema_version": 3,
        "grade_id": name,
        "grade": points is not None,
        "solution": solution,
        "locked": locked,
        "task": False,
        "cell_type": cell.cell_type,
    } | ({} if points is None else {"points": points})
    return cell


def _reference_cell(answers: dict[str, Answer]) -> NotebookNode:
    solutions = {label: (answer.code, answer.report) for label, answer in answers.items()}
    listed = "".join(f"    {label!r}: {code!r},\n" for label, code in solutions.items())
    code = (
        "from reprise.suite import grading\n\n"
        "# Nothing to do here: when your work is graded, this cell runs the reference solutions on their own.\n"
        "### BEGIN HIDDEN TESTS\n"
        f"_references = grading.references(globals(), {{\n{listed}}})\n"
        "### END HIDDEN TESTS"
    )
    return _mark(nbformat.v4.new_code_cell(code), "references", points=0, locked=True)


def _exercise_cells(number: int, exercise: Exercise, answer: Answer) -> list[NotebookNode]:
    label, report = exercise.label, f"report_{number}"
    cells = [nbformat.v4.new_markdown_cell(f"### Exercise {number}"), *exercise.question]
    if answer.code:
        task = f"# Make {', '.join(answer.results)}; the next cell reports what you found.\n" if answer.report else ""
        cells.append(_mark(nbformat.v4.new_code_cell(task + answer.marked), f"{label}-answer", solution=True))
    if answer.report:
        look = f"{report} = {answer.report}\ndisplay({report})\ngrading.check_numbers({report})"
        compare = (
            "# When your work is graded, this cell compares your report with that of the reference solution.\n"
            f"### BEGIN HIDDEN TESTS\ngrading.check_agreement({report}, _references[{label!r}])\n### END HIDDEN TESTS"
        )
        for name, code in (("report", look), ("agreement", compare)):
            cells.append(_mark(nbformat.v4.new_code_cell(code), f"{label}-{name}", points=POINTS[name], locked=True))
    words = "\n\n".join(exercise.words) or "The code says it all."
    points = POINTS["words"] if answer.report else sum(POINTS.values())
    cells.append(_mark(nbformat.v4.new_markdown_cell(words), f"{label}-words", points=points, solution=True))
    return cells
