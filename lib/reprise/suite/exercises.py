"""The exercises of a chapter and their solutions, found in its notebook by the marks of sphinx-exercise.

A gated exercise begins in one cell and may end in another, so a notebook is read as a row of pieces: what belongs to
an exercise, what to a solution, what to neither.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode

from reprise.suite.errors import RepriseError

_MARK = re.compile(r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>exercise|solution)(?P<gate>-start|-end)?\}\s*(?P<argument>.*)$")
_OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")


@dataclass(frozen=True)
class Piece:
    """A whole cell or a part of a Markdown cell."""

    kind: str  # "exercise", "solution" or "" for neither
    label: str  # of the exercise, also for its solution; "" for neither
    text: str  # without the marks
    source: str  # as written, marks included
    cell: NotebookNode  # the cell it is from


@dataclass
class Exercise:
    """One exercise: its question, and its solution in words and in code (cells in order)."""

    label: str
    question: list[NotebookNode] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    code: list[NotebookNode] = field(default_factory=list)


def pieces(notebook: NotebookNode) -> Iterator[Piece]:
    """The notebook in pieces, in order; a cell without a mark is one piece.

    Raises:
        RepriseError: A mark is never closed.
    """
    kind, label = "", ""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            yield Piece(kind, label, cell.source, cell.source, cell)
            continue
        text, source, lines = [], [], iter(cell.source.splitlines(keepends=True))
        for line in lines:
            mark = _MARK.match(line.rstrip())
            if not mark:
                text.append(line)
                source.append(line)
                continue
            block, options, body = _rest(line, mark["fence"], lines)
            gate, named = mark["gate"], options.get("label", "") if mark["kind"] == "exercise" else mark["argument"]
            if gate == "-end":
                yield Piece(kind, label, "".join(text), "".join(source + block), cell)
                kind, label, text, source = "", "", [], []
                continue
            if source:
                yield Piece(kind, label, "".join(text), "".join(source), cell)
            if gate == "-start":
                kind, label, text, source = mark["kind"], named, body, block
            else:
                yield Piece(mark["kind"], named, "".join(body), "".join(block), cell)
                text, source = [], []
        if source:
            yield Piece(kind, label, "".join(text), "".join(source), cell)
    if kind:
        raise RepriseError(f"The {kind} {label!r} has no {{{kind}-end}}: close it.")


def _rest(first: str, fence: str, lines: Iterator[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """The lines of a directive up to its closing fence, its options, and its body."""
    block, options, body = [first], {}, []
    for line in lines:
        block.append(line)
        bare = line.strip()
        if len(bare) >= len(fence) and set(bare) == {fence[0]}:
            break
        option = _OPTION.match(bare)
        if option and not body:
            options[option[1]] = option[2]
        elif bare or body:
            body.append(line)
    return block, options, body


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a chapter in their order, each with its solution where there is one."""
    found: dict[str, Exercise] = {}
    for piece in pieces(notebook):
        if not piece.kind:
            continue
        exercise = found.setdefault(piece.label, Exercise(piece.label))
        if piece.kind == "exercise" and piece.text.strip():
            cell = copy.deepcopy(piece.cell)
            cell.source = piece.text.strip()
            exercise.question.append(cell)
        elif piece.cell.cell_type == "code":
            exercise.code.append(piece.cell)
        elif piece.text.strip():
            exercise.words.append(piece.text.strip())
    return list(found.values())


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy of a notebook in which nothing is left of any solution: no text, no code, no output."""
    kept: list[NotebookNode] = []
    last = None  # the cell from which the last piece came
    for piece in pieces(notebook):
        if piece.kind == "solution":
            continue
        if piece.cell is last:
            kept[-1].source += piece.source
        else:
            kept.append(copy.deepcopy(piece.cell))
            kept[-1].source = piece.source
        last = piece.cell
    cut = copy.copy(notebook)
    cut.cells = [cell for cell in kept if cell.source.strip()]
    return cut
