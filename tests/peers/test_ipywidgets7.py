"""Explorers under ipywidgets 7.7.1, which Colab ships: no Stack, a live kernel, one image that an observer replaces."""

import io

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from reprise.suite import plots
from reprise.suite.explorers import explore

pytestmark = pytest.mark.skipif(
    not widgets.__version__.startswith("7."), reason="this environment has ipywidgets 8; tests/suite covers it"
)
REDS = [0.2, 0.5, 1.0]


def draw(red: float, wide: bool):
    fig, ax = plots.figure(width=1.0, height=0.5)
    ax.set_axis_off()
    fig.patch.set_facecolor((red, 1.0 if wide else 0.0, 0.0))
    return fig


def color(image: widgets.Image) -> tuple[int, ...]:
    return tuple(int(c) for c in np.asarray(Image.open(io.BytesIO(image.value)).convert("RGB"))[5, 5])


def test_image_follows_the_sliders():
    explorer = explore(draw, alt="The color follows.", start={"red": 0.5}, red=REDS, wide=[False, True])
    red, wide, image, words = explorer.children
    assert isinstance(image, widgets.Image)
    assert "The color follows." in words.value
    assert color(image) == (128, 0, 0)
    red.index = 2
    assert color(image) == (255, 0, 0)
    wide.index = 1
    assert color(image) == (255, 255, 0)
    red.value = 0  # as the front end sets it: the option's value is its position
    assert color(image) == (51, 255, 0)


def test_every_trait_that_is_sent_is_known_to_version_7():
    explorer = explore(draw, alt="The color follows.", red=REDS, wide=[False, True])
    for widget in (explorer, *explorer.children):
        assert widget._model_module_version.startswith("1.")
        widget.get_state()
