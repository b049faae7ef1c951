"""Explorers: every combination drawn once, joined to the right slider position, with and without `Stack`."""

import io
import itertools

import ipywidgets as widgets
import matplotlib
import numpy as np
import pytest
from PIL import Image

from reprise.suite import plots
from reprise.suite.explorers import explore

GRID = {"beta": [0.1, 1.0, 10.0], "kind": ["sign", "softmax"]}
ALT = "Raising β sharpens the curve & separates < patterns."
needs_stack = pytest.mark.skipif(not hasattr(widgets, "Stack"), reason="ipywidgets 7 has no Stack")


class Painter:
    """Draws a plain figure whose color tells the combination, and notes every call."""

    def __init__(self, height: float = 0.6):
        self.calls, self.height = [], height

    def __call__(self, **values):
        self.calls.append(tuple(values.values()))
        fig, ax = plots.figure(width=1.0, height=self.height)
        ax.set_axis_off()
        fig.patch.set_facecolor(color_of(*values.values()))
        return fig


def color_of(beta: float, kind: str) -> str:
    return matplotlib.colors.to_hex((GRID["beta"].index(beta) / 4 + 0.25, 0.5 * GRID["kind"].index(kind), 0.5))


def color_in(image: widgets.Image) -> str:
    opened = Image.open(io.BytesIO(image.value))
    assert opened.format.lower() == image.format
    red, green, blue, _ = np.asarray(opened.convert("RGBA"))[5, 5]
    return f"#{red:02x}{green:02x}{blue:02x}"


def parts(explorer):
    """Sliders, the picture, the words."""
    *sliders, picture, words = explorer.children
    return sliders, picture, words


def shown(picture: widgets.Widget) -> widgets.Image:
    """The image that the reader sees."""
    while not isinstance(picture, widgets.Image):
        picture = picture.children[picture.selected_index]
    return picture


@pytest.fixture
def without_stack(monkeypatch):
    monkeypatch.delattr(widgets, "Stack", raising=False)


def test_every_combination_is_drawn_once_in_the_order_of_the_grid():
    painter = Painter()
    explore(painter, alt=ALT, **GRID)
    assert painter.calls == list(itertools.product(*GRID.values()))


@needs_stack
def test_every_position_of_the_stacks_holds_its_own_combination():
    _, picture, _ = parts(explore(Painter(), alt=ALT, **GRID))
    for i, j in itertools.product(range(3), range(2)):
        assert color_in(picture.children[i].children[j]) == color_of(GRID["beta"][i], GRID["kind"][j])


@needs_stack
def test_every_stack_is_linked_in_the_browser_to_its_slider():
    sliders, picture, _ = parts(explore(Painter(), alt=ALT, **GRID))
    registry = getattr(widgets.Widget, "_instances", None) or widgets.widgets.widget._instances
    links = [w for w in registry.values() if isinstance(w, widgets.widget_link.Link)]
    pairs = {(link.source[0].model_id, link.target[0].model_id) for link in links}
    assert all(link.source[1] == "index" and link.target[1] == "selected_index" for link in links)
    wanted = {(sliders[0].model_id, picture.model_id)}
    wanted |= {(sliders[1].model_id, inner.model_id) for inner in picture.children}
    assert wanted <= pairs


@needs_stack
def test_opens_at_the_start_and_at_the_first_values_without_one():
    start = {"beta": 10.0, "kind": "softmax"}
    _, picture, _ = parts(explore(Painter(), alt=ALT, start=start, **GRID))
    assert color_in(shown(picture)) == color_of(10.0, "softmax")
    sliders, picture, _ = parts(explore(Painter(), alt=ALT, **GRID))
    assert color_in(shown(picture)) == color_of(0.1, "sign")
    assert [slider.index for slider in sliders] == [0, 0]


def test_sliders_are_named_and_read_in_words():
    sliders, _, words = parts(explore(Painter(), alt=ALT, labels={"beta": "inverse temperature β"}, **GRID))
    assert [slider.description for slider in sliders] == ["inverse temperature β", "kind"]
    assert [text for text, _ in sliders[0].options] == ["0.1", "1", "10"]
    assert words.value == (
        '<p class="reprise-explorer-alt">Raising β sharpens the curve &amp; separates &lt; patterns.</p>'
    )


def test_with_ipywidgets_7_moving_a_slider_replaces_the_one_image(without_stack):
    sliders, image, _ = parts(explore(Painter(), alt=ALT, start={"beta": 1.0}, **GRID))
    assert isinstance(image, widgets.Image)
    assert color_in(image) == color_of(1.0, "sign")
    for i, j in [(2, 0), (2, 1), (0, 1), (0, 0)]:
        sliders[0].index, sliders[1].index = i, j
        assert color_in(image) == color_of(GRID["beta"][i], GRID["kind"][j])


def test_figures_made_with_pyplot_are_closed():
    import matplotlib.pyplot as plt

    def draw(a):
        fig, ax = plt.subplots(figsize=(1, 1))
        ax.plot([0, a])
        return fig

    explore(draw, alt=ALT, a=[1, 2])
    assert plt.get_fignums() == []


def test_too_many_frames_are_refused_before_anything_is_drawn():
    painter = Painter()
    with pytest.raises(ValueError, match="7 x 7 = 49 frames.* at most 48"):
        explore(painter, alt=ALT, beta=range(7), kind=range(7))
    assert painter.calls == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"alt": " "}, "needs alt="),
        ({"labels": {"gamma": "γ"}}, "labels names 'gamma'"),
        ({"start": {"gamma": 1}}, "start names 'gamma'"),
        ({"start": {"beta": 2.0}}, "beta=2.0 is not in the grid; choose one of 0.1, 1, 10"),
        ({"beta": [1.0]}, "at least two values"),
        ({"beta": [1.00001, 1.00002]}, "same text"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        explore(Painter(), **({"alt": ALT} | GRID | wrong))


def test_no_grid_is_refused():
    with pytest.raises(ValueError, match="needs a grid"):
        explore(Painter(), alt=ALT)


def test_draw_that_returns_no_figure_is_named_with_its_values():
    with pytest.raises(ValueError, match=r"draw\(a=1\): expected a matplotlib Figure, not NoneType"):
        explore(lambda a: None, alt=ALT, a=[1, 2])


def test_frames_of_different_sizes_are_refused():
    def draw(a):
        return plots.figure(width=1, height=a)[0]

    with pytest.raises(ValueError, match="same size"):
        explore(draw, alt=ALT, a=[1, 2])
