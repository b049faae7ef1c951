"""Exercises found in notebooks, whatever cells they begin and end in, and solutions cut without a trace."""

import copy

import nbformat
import pytest

from reprise.suite.catalogue import load_cards
from reprise.suite.errors import RepriseError
from reprise.suite.execution import read_source, written
from reprise.suite.exercises import exercises, pieces, without_solutions
from reprise.suite.house import House

HOUSE = House.here()
WRITTEN = written(HOUSE)


def notebook(*cells):
    """A notebook of Markdown (text) and code (a tuple of one text)."""
    made = [
        nbformat.v4.new_code_cell(cell[0], outputs=[nbformat.v4.new_output("stream", text="secret output")])
        if isinstance(cell, tuple)
        else nbformat.v4.new_markdown_cell(cell)
        for cell in cells
    ]
    return nbformat.v4.new_notebook(cells=made)


GATED = (
    "## Exercises\n\n```{exercise-start}\n:label: one\n```\nWhy?\n```{exercise-end}\n```\n\n"
    "```{solution-start} one\n:class: dropdown\n```\nBecause secret.",
    ("secret = 1",),
    "More secret.\n```{solution-end}\n```\n\n```{exercise-start}\n:label: two\n```\nAnd this?\n"
    "```{exercise-end}\n```\n\n```{solution-start} two\n```\n",
    ("secret = 2",),
    "```{solution-end}\n```\n\n## Next\n\nThe end.",
    ("after = 3",),
)


def test_a_solution_is_found_across_cells_with_its_words_and_code():
    one, two = exercises(notebook(*GATED))
    assert (one.label, two.label) == ("one", "two")
    assert [cell.source for cell in one.question] == ["Why?"]
    assert one.words == ["Because secret.", "More secret."]
    assert [cell.source for cell in one.code] == ["secret = 1"]
    assert two.words == []
    assert [cell.source for cell in two.code] == ["secret = 2"]


def test_nothing_of_a_solution_is_left_and_all_else_is():
    given = notebook(*GATED)
    before = copy.deepcopy(given)
    text = nbformat.writes(without_solutions(given))
    assert given == before, "the notebook itself is as it was"
    assert "secret" not in text.replace("secret output", "", 1)  # the last cell's own output stays
    assert "solution" not in text
    for kept in ("## Exercises", "Why?", "And this?", "## Next", "The end.", "after = 3", ":label: two"):
        assert kept in text


@pytest.mark.parametrize("fence", ["```", "````", ":::"])
def test_an_exercise_and_a_solution_in_one_directive_each_count_too(fence):
    exercise = f"{fence}{{exercise}}\n:label: one\n\nWhy?\n{fence}\n\n"
    text = exercise + f"{fence}{{solution}} one\n:class: dropdown\n\nSecret.\n{fence}\nAfter."
    (one,) = exercises(notebook(text))
    assert (one.label, one.question[0].source, one.words) == ("one", "Why?", ["Secret."])
    left = nbformat.writes(without_solutions(notebook(text)))
    assert "Secret" not in left
    assert "After." in left


def test_a_solution_that_is_never_closed_is_named():
    with pytest.raises(RepriseError, match="'one' has no {solution-end}"):
        exercises(notebook(GATED[0]))


@pytest.mark.parametrize("slug", WRITTEN)
def test_a_chapter_is_cut_exactly_where_its_solutions_are(slug):
    source = read_source(HOUSE, WRITTEN[slug])
    assert "".join(piece.source for piece in pieces(source)) == "".join(cell.source for cell in source.cells)
    found, cut = exercises(source), without_solutions(source)
    assert len(found) >= 3
    assert all(exercise.question and (exercise.words or exercise.code) for exercise in found)
    sources = [cell.source for cell in cut.cells]
    for exercise in found:
        assert f":label: {exercise.label}\n" in "".join(sources)
        for hidden in [cell.source for cell in exercise.code] + exercise.words:
            assert not any(hidden in text for text in sources)
    assert not any("{solution-" in text for text in sources)


def test_labels_are_unique_in_the_book():
    labels = [e.label for card in WRITTEN.values() for e in exercises(read_source(HOUSE, card))]
    assert len(labels) == len(set(labels))
    assert load_cards(HOUSE).keys() >= WRITTEN.keys()
