"""What every chapter must have (DESIGN §4), checked without executing it; `reprise check` prints what is missing."""

import ast
import re

from nbformat import NotebookNode

from reprise.suite.catalogue import Card
from reprise.suite.execution import read_source
from reprise.suite.house import House, module_name

SECTIONS = (
    "The picture",
    "The question",
    "The idea",
    "The method in code",
    "The experiment",
    "The evidence",
    "The full run",
    "Where it breaks",
    "Exercises",
    "Next",
)
MAX_CELL_LINES = 15


def missing(house: House, card: Card) -> list[str]:
    """Sentences that say what a written chapter still lacks; empty where it is complete."""
    files = {
        "card": house.card(card.part, card.slug),
        "module": house.module(card.part, card.slug),
        "test": house.test(card.part, card.slug),
        "source": house.source(card.part, card.slug),
    }
    lacks = [f"the {name} is missing: {path}" for name, path in files.items() if not path.is_file()]
    for name, path in files.items():
        if path.is_file() and "TODO" in path.read_text(encoding="utf-8"):
            lacks.append(f"a TODO is left in the {name}: {path}")
    if files["source"].is_file():
        lacks += _lacks_in_source(card, read_source(house, card))
    if files["test"].is_file():
        tests = [
            n
            for n in ast.walk(ast.parse(files["test"].read_text()))
            if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")
        ]
        if len(tests) < 3:
            lacks.append(f"the test file has {len(tests)} tests; a method needs at least three oracles")
    return lacks


def _lacks_in_source(card: Card, notebook: NotebookNode) -> list[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    cells = [c for c in notebook.cells if c.cell_type == "code" and not c.metadata.get("reprise_setup")]
    code = "\n".join(line for cell in cells for line in cell.source.splitlines() if not line.lstrip().startswith("#"))
    lacks = []
    headings = re.findall(r"^## (.+)$", text, flags=re.M)
    if tuple(headings) != SECTIONS:
        lacks.append(f"the sections are {headings}; they should be {list(SECTIONS)}")
    if not any("parameters" in c.metadata.get("tags", []) for c in cells):
        lacks.append("no code cell is tagged `parameters` (profile, device, first_seed)")
    for number, cell in enumerate(cells, 1):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
        if len(lines) > MAX_CELL_LINES:
            lacks.append(
                f"code cell {number} has {len(lines)} lines; move work into the module, {MAX_CELL_LINES} is the limit"
            )
    lacks += [f"the claim {c.id} is never weighed" for c in card.claims if c.profile and f'weigh("{c.id}"' not in code]
    for call in ("run.evidence()", "run.full_record()", "show(", "explore(", "plots.picture("):
        if call not in code:
            lacks.append(f"no cell calls `{call}`")
    exercises, solutions = text.count("{exercise-start}"), text.count("{solution-start}")
    if exercises < 3 or solutions < exercises:
        lacks.append(
            f"there are {exercises} exercises with {solutions} solutions; three, each with a solution, are needed"
        )
    if "{cite" not in text:
        lacks.append("the chapter cites nothing: put its paper into book/references.bib and name it by {cite:t}`key`")
    if f"reprise.{card.part}" not in code or module_name(card.slug) not in code:
        lacks.append("the chapter does not import its own module")
    return lacks
