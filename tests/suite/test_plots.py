"""Figures: one look, readable on both pages, small, and never without words."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from reprise.suite import plots

SHEET = (Path(__file__).resolve().parents[2] / "book/_static/reprise.css").read_text(encoding="utf-8")
DARK_PAGE = re.search(r'data-theme="dark"\] \{.*?--pst-color-background: (#\w{6})', SHEET, re.S).group(1)


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


class Tags(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def curves(seeds: int = 5, points: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.sqrt(np.arange(points)) + rng.normal(size=(seeds, points)).cumsum(1) / 20


def drawn() -> Figure:
    fig, ax = plots.figure()
    plots.band(ax, range(40), curves(), label="method")
    plots.band(ax, range(40), 0.8 * curves(), label="baseline", color=plots.BASELINE)
    ax.set_xlabel("step")
    return fig


def pixels_of(picture: plots.Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.image)).convert("RGBA"))


def test_text_reads_on_light_pages_and_brightened_as_the_site_does_on_dark_ones():
    factor = float(re.search(r'data-theme="dark"\].* img \{ filter: brightness\(([\d.]+)\)', SHEET).group(1))
    brightened = "#" + "".join(f"{round(int(plots.INK[i : i + 2], 16) * factor):02x}" for i in (1, 3, 5))
    assert contrast(plots.INK, "#ffffff") >= 4.5  # what WCAG asks of text
    assert contrast(brightened, DARK_PAGE) >= 4.5
    assert contrast(plots.INK, DARK_PAGE) > 4  # in a dark notebook, where nothing is brightened


@pytest.mark.parametrize("page", ["#ffffff", DARK_PAGE])
@pytest.mark.parametrize("name", ["METHOD", "ABLATION", "BASELINE", "BASELINE2"])
def test_curves_stand_out_on_the_light_and_on_the_dark_page(name, page):
    assert contrast(getattr(plots, name), page) >= 3  # what WCAG asks of graphics


def test_picture_is_transparent_twice_as_sharp_as_shown_and_has_64_colors_at_most():
    picture = plots.picture(drawn(), alt="two curves rise", caption="The method rises faster.")
    pixels = pixels_of(picture)
    assert pixels.shape == (640, 1360, 4)
    assert (picture.width, picture.height) == (680, 320)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) <= 64
    assert set(pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3]) == {0}
    assert pixels[..., 3].max() == 255


def test_line_plot_with_bands_weighs_under_30_kilobytes():
    assert len(plots.picture(drawn(), alt="two curves", caption="They rise.").image) < 30_000


def test_picture_carries_its_words_escaped():
    words = {"alt": 'accuracy "above" 90 & <rising>', "caption": "At β < 1 the error is 0.5 & falls."}
    bundle = plots.picture(drawn(), **words)._repr_mimebundle_()
    tags = Tags(bundle["text/html"])
    ((_, image),) = [tag for tag in tags.found if tag[0] == "img"]
    assert image["alt"] == words["alt"]
    assert image["width"] == "680"
    assert "".join(tags.texts) == words["caption"]
    assert [tag for tag, _ in tags.found] == ["figure", "img", "figcaption"]
    kind, data = re.fullmatch(r"data:image/(png|webp);base64,(.+)", image["src"]).groups()
    assert Image.open(io.BytesIO(base64.b64decode(data))).format.lower() == kind
    assert all(text in bundle["text/plain"] for text in words.values())


@pytest.mark.parametrize("empty", ["", "  \n"])
@pytest.mark.parametrize("name", ["alt", "caption"])
def test_picture_without_words_is_refused(name, empty):
    with pytest.raises(ValueError, match=f"needs {name}="):
        plots.picture(drawn(), **({"alt": "a", "caption": "c"} | {name: empty}))


def test_picture_of_something_else_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="plots.figure"):
        plots.picture(drawn().axes[0], alt="a", caption="c")


def test_picture_closes_figures_that_pyplot_made():
    import matplotlib.pyplot as plt

    fig = plt.figure()
    plots.picture(fig, alt="a", caption="c")
    assert fig.number not in plt.get_fignums()


def test_figure_wider_than_the_column_is_refused():
    with pytest.raises(ValueError, match=r"6\.8"):
        plots.figure(width=9)


def test_house_figures_neither_import_pyplot_nor_choose_a_backend():
    code = (
        "import sys, matplotlib\nbefore = dict.__getitem__(matplotlib.rcParams, 'backend')\n"
        "from reprise.suite import plots\nfig, ax = plots.figure()\nax.plot([1, 2])\n"
        "plots.picture(fig, alt='a', caption='c')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict.__getitem__(matplotlib.rcParams, 'backend') == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_band_draws_the_mean_and_students_interval_over_seeds():
    _, ax = plots.figure()
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], requires_grad=True)
    line = plots.band(ax, [0], values)
    half = 2.7764451 * np.sqrt(2.5) / np.sqrt(5)  # t quantile with 4 degrees of freedom, from tables
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert line.get_ydata() == pytest.approx([3.0])
    assert (heights.min(), heights.max()) == pytest.approx((3 - half, 3 + half))


def test_band_leaves_out_what_is_nan_for_a_seed():
    _, ax = plots.figure()
    line = plots.band(ax, [0, 1], [[1.0, 2.0], [3.0, np.nan], [5.0, np.nan]])
    assert line.get_ydata() == pytest.approx([3.0, 2.0])


def test_hollow_band_has_open_markers_a_dashed_line_and_no_filling():
    _, ax = plots.figure()
    line = plots.band(ax, range(4), curves(points=4), color=plots.ABLATION, hollow=True)
    assert line.get_markerfacecolor() == "none"
    assert line.get_linestyle() == "--"
    assert len(ax.collections) == 0


@pytest.mark.parametrize("shape", [(40,), (5, 39), (2, 5, 40)])
def test_band_of_wrong_shape_names_both_shapes(shape):
    _, ax = plots.figure()
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        plots.band(ax, range(40), np.zeros(shape))


def test_dots_show_every_seed_and_the_mean():
    _, ax = plots.figure()
    bar = plots.dots(ax, 1.0, [1.0, 2.0, 6.0], label="method")
    assert sorted(ax.collections[0].get_offsets()[:, 1]) == [1.0, 2.0, 6.0]
    assert bar.lines[0].get_ydata() == pytest.approx([3.0])


def test_direct_labels_stand_in_the_order_of_their_curves_and_never_overlap():
    _, ax = plots.figure()
    for height, name in ((1.0, "low"), (1.001, "middle"), (1.002, "high"), (9.0, "far")):
        plots.band(ax, [0, 1], np.full((5, 2), height), label=name)
    plots.label(ax)
    heights = {note.get_text(): note.get_window_extent() for note in ax.texts}
    ordered = [heights[name] for name in ("low", "middle", "high", "far")]
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in zip(ordered, ordered[1:]))


def test_few_colors_survive_quantization_exactly():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, size=(50, 4), dtype=np.uint8)[rng.integers(0, 50, size=(60, 80))]
    assert np.array_equal(np.asarray(plots.quantize(pixels).convert("RGBA")), pixels)


def test_many_colors_are_quantized_to_near_ones():
    ramp = np.zeros((64, 256, 4), dtype=np.uint8)
    ramp[..., 0] = np.arange(256)
    ramp[..., 3] = 255
    reduced = np.asarray(plots.quantize(ramp).convert("RGBA")).astype(int)
    assert len(np.unique(reduced[..., 0])) <= 64
    assert np.abs(reduced - ramp).max() <= 4  # a ramp of 256 levels cannot be closer than 2 with 64
    assert (reduced[..., 3] == 255).all()
