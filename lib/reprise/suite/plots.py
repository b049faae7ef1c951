"""The one look of all figures: quiet, color-blind safe, and readable on white and on dark pages alike.

The method is always vermillion, baselines are gray, an ablation is blue and hollow (dashed line, open markers,
outlined band). Seeds are shown as a mean with its 95 % interval, never as a lone curve. Backgrounds are transparent,
and text has a gray that keeps a contrast above 4.5 on white and on the site's dark pages. Images are drawn at
twice the shown size, for dense screens, and reduced to 64 colors, which leaves 13 to 30 KB of a line plot.

Figures are plain `matplotlib.figure.Figure` objects that pyplot does not know: nothing is shown twice, no window
opens, no backend is chosen for anyone, and nothing stays open.
"""

import base64
import html
import io
import sys
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

METHOD = "#D55E00"
ABLATION = "#0072B2"
BASELINE = "#666C73"
BASELINE2 = "#8F949A"
INK = "#70767D"  # text and axes: contrast 4.6 on white, 4.1 on a dark page, 5.7 on the site's, which brightens figures
# Okabe and Ito's colors without black and yellow, of which the dark and the white page would each swallow one
PALETTE = [METHOD, ABLATION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]

SHOWN_DPI = 100  # a figure 6.8 wide is shown 680 px wide
SAVED_SCALE = 2.0
COLORS = 64

STYLE = {
    "figure.dpi": SHOWN_DPI,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # travels with matplotlib, so figures are the same on every machine
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "patch.linewidth": 0.8,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
}


def figure(width: float = 6.8, height: float = 3.2, **subplots_kwargs) -> tuple[Figure, Axes | np.ndarray]:
    """A figure in the house style, and its axes as `Figure.subplots` returns them.

    The style becomes matplotlib's default for the rest of the session, because titles, legends and notes take their
    looks at the moment when they are added.

    Args:
        width: in units of 100 shown pixels; 6.8 fills the text column.
        height: the same.
        subplots_kwargs: for `Figure.subplots`, such as nrows, ncols, sharey, width_ratios, squeeze.
    Raises:
        ValueError: the figure is wider than the column or has no height.
    """
    if not (0 < width <= 6.8 and height > 0):
        raise ValueError(f"a figure is at most 6.8 wide and has a height, not {width} x {height}; choose smaller sizes")
    matplotlib.rcParams.update(STYLE)
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(**subplots_kwargs)


def band(ax: Axes, x, values, label: str = "", color: str = METHOD, hollow: bool = False, **line_kwargs) -> Line2D:
    """Draws the mean over the leading seed axis and the 95 % interval of that mean (Student's t).

    Args:
        ax: axes to draw on.
        x: points along the horizontal axis, `(points,)`.
        values: `(seeds, points)`, a tensor or anything numpy understands; a point that is NaN for a seed is left out.
        label: name of the curve, for `label` or a legend.
        color: METHOD, ABLATION, BASELINE, BASELINE2 or a color of PALETTE.
        hollow: dashed line, open markers and outlined band: an ablation.
        line_kwargs: for `Axes.plot`.
    Raises:
        ValueError: the shapes do not fit.
    """
    x, values = as_array(x), as_array(values)
    if values.ndim != 2 or x.shape != values.shape[1:]:
        raise ValueError(
            f"a band takes x of shape (points,) and values of shape (seeds, points), not {x.shape} and {values.shape}"
        )
    mean, half = _mean_and_half_width(values)
    line_style = "--" if hollow else "-." if color == BASELINE2 else "-"
    look = {"linestyle": line_style, "marker": "o" if len(x) <= 12 else ""}
    if hollow:
        look |= {"markerfacecolor": "none", "linewidth": 1.5}
    (line,) = ax.plot(x, mean, color=color, label=label, **(look | line_kwargs))
    if hollow:
        for edge in (mean - half, mean + half):
            ax.plot(x, edge, color=color, linewidth=0.7, alpha=0.6, label="_band")
    else:
        ax.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, linewidth=0, label="_band")
    return line


def dots(ax: Axes, x: float, values, label: str = "", color: str = METHOD, hollow: bool = False) -> ErrorbarContainer:
    """Draws one value per seed as small dots above `x`, with their mean and its 95 % interval beside them.

    Args:
        ax: axes to draw on.
        x: where along the horizontal axis.
        values: `(seeds,)`.
        label: name for a legend.
        color: as in `band`.
        hollow: open dots: an ablation.
    Raises:
        ValueError: values do not have one axis.
    """
    values = as_array(values)
    if values.ndim != 1:
        raise ValueError(f"dots take one value per seed, shape (seeds,), not {values.shape}")
    mean, half = _mean_and_half_width(values[:, None])
    spread = np.linspace(-0.07, 0.07, len(values)) if len(values) > 1 else np.zeros(1)
    fill = "none" if hollow else color
    ax.scatter(x + spread, values, s=14, facecolors=fill, edgecolors=color, alpha=0.55, linewidths=0.9)
    return ax.errorbar(
        x + 0.16, mean[0], yerr=half[0], color=color, marker="D", markersize=5, label=label,
        markerfacecolor=fill, capsize=3, linestyle="none",
    )  # fmt: skip


def label(ax: Axes, *lines: Line2D, gap_pt: float = 12.0) -> None:
    """Writes each curve's name at its right end in its own color, instead of a legend.

    Names move apart where they meet. Call it last, when data, scales and limits are set.

    Args:
        ax: the axes.
        lines: the curves; without any, all that have a label.
        gap_pt: smallest vertical distance between names, in points.
    """
    named = [line for line in (lines or ax.get_lines()) if line.get_label() and line.get_label()[0] != "_"]
    ends = []
    for line in named:
        points = np.column_stack([np.asarray(data, dtype=float) for data in line.get_data()])
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            end = points[points[:, 0].argmax()]
            ends.append((ax.transData.transform(end)[1], end, line))
    ends.sort(key=lambda found: found[0])
    points_per_pixel = 72 / ax.figure.dpi
    heights = _spread([height * points_per_pixel for height, _, _ in ends], gap_pt)
    for wanted, (height, end, line) in zip(heights, ends):
        ax.annotate(
            line.get_label(), end, xytext=(7, wanted - height * points_per_pixel), textcoords="offset points",
            color=line.get_color(), va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A finished figure: its bytes and their format, its shown size in pixels, and what it shows in words."""

    image: bytes
    format: str
    width: int
    height: int
    alt: str
    caption: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        data = base64.b64encode(self.image).decode()
        page = (
            f'<figure class="reprise-figure"><img alt="{html.escape(self.alt)}" width="{self.width}" '
            f'height="{self.height}" style="max-width:100%;height:auto" src="data:image/{self.format};base64,{data}">'
            f"<figcaption>{html.escape(self.caption, quote=False)}</figcaption></figure>"
        )
        return {"text/html": page, "text/plain": f"Figure: {self.caption} ({self.alt})"}


def picture(fig: Figure, alt: str, caption: str) -> Picture:
    """Finishes a figure for the page: 64 colors at twice the shown size, with its text alternative and caption.

    The image is a palette PNG or a lossless WebP, whichever is smaller.

    Args:
        fig: a figure made by `figure`; it is closed.
        alt: what the figure shows, for who cannot see it; may be an f-string with computed numbers.
        caption: one sentence that says what to see; the same.
    Raises:
        ValueError: alt or caption is empty.
    """
    check_figure(fig)
    for name, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"a picture needs {name}=...: say in a sentence what the figure shows")
    width, height = (round(side * SHOWN_DPI) for side in fig.get_size_inches())
    return Picture(*smallest(quantize(draw(fig))), width, height, _one_line(alt), _one_line(caption))


def draw(fig: Figure, scale: float = SAVED_SCALE) -> np.ndarray:
    """Bytes of red, green, blue, alpha at `scale` times the shown size, `(height, width, 4)`; closes the figure."""
    canvas = FigureCanvasAgg(fig)
    fig.dpi = scale * SHOWN_DPI
    canvas.draw()
    pixels = np.array(canvas.buffer_rgba())
    close(fig)
    return pixels


def close(fig: Figure) -> None:
    """Forgets the figure where pyplot made it, without importing pyplot (which would choose a backend)."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)


def check_figure(fig) -> None:
    if not isinstance(fig, Figure):
        raise ValueError(
            f"expected a matplotlib Figure, not {type(fig).__name__}; "
            "make it with `fig, ax = plots.figure()` and hand over fig"
        )


def as_array(values) -> np.ndarray:
    """A float array of a tensor (on any device, with or without gradient), list or array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=float)


def quantize(pixels: np.ndarray, colors: int = COLORS) -> Image.Image:
    """The image with at most so many colors, alpha kept: weighted k-means over the distinct colors of the image.

    Colors are compared with alpha multiplied in, so that faint edges of curves fade as they should.
    """
    flat = np.ascontiguousarray(pixels).reshape(-1, 4)
    packed, inverse, counts = np.unique(flat.view(np.uint32).ravel(), return_inverse=True, return_counts=True)
    distinct = packed.view(np.uint8).reshape(-1, 4)
    palette, nearest = distinct, np.arange(len(distinct))
    if len(distinct) > colors:
        palette, nearest = _cluster(distinct, counts.astype(float), colors)
    image = Image.fromarray(nearest.astype(np.uint8)[inverse].reshape(pixels.shape[:2]), mode="P")
    image.putpalette(palette[:, :3].tobytes())
    image.info["transparency"] = palette[:, 3].tobytes()
    return image


def smallest(image: Image.Image) -> tuple[bytes, str]:
    """The image's bytes as palette PNG or as lossless WebP, whichever is smaller, and the name of the format."""
    buffer = io.BytesIO()
    image.convert("RGBA").save(buffer, format="webp", lossless=True, quality=50, method=4)
    return min((_png(image), "png"), (buffer.getvalue(), "webp"), key=lambda found: len(found[0]))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _cluster(distinct: np.ndarray, counts: np.ndarray, colors: int) -> tuple[np.ndarray, np.ndarray]:
    alpha = distinct[:, 3:].astype(float)
    points = np.concatenate([distinct[:, :3] * (alpha / 255), alpha], axis=1)
    weight = np.sqrt(counts)  # between "every pixel counts" and "every color counts": thin curves keep their color
    centers = np.empty((colors, 4))
    centers[0] = points[counts.argmax()]
    distance = ((points - centers[0]) ** 2).sum(1)
    for i in range(1, colors):
        centers[i] = points[(weight * distance).argmax()]
        distance = np.minimum(distance, ((points - centers[i]) ** 2).sum(1))
    for _ in range(3):
        nearest = _nearest(points, centers)
        total = np.bincount(nearest, weights=weight, minlength=colors)
        for axis in range(4):
            sums = np.bincount(nearest, weights=weight * points[:, axis], minlength=colors)
            centers[:, axis] = np.where(total > 0, sums / np.maximum(total, 1e-9), centers[:, axis])
        centers[0] = points[counts.argmax()]  # the background stays exactly what it is
    alpha = centers[:, 3:]
    color = np.where(alpha > 0, centers[:, :3] * 255 / np.maximum(alpha, 1e-9), 255.0)
    palette = np.concatenate([color, alpha], axis=1).round().clip(0, 255).astype(np.uint8)
    return palette, _nearest(points, centers)


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    squares = (centers**2).sum(1)
    chunks = [points[i : i + 65536] for i in range(0, len(points), 65536)]  # a photograph has many colors
    return np.concatenate([(squares - 2 * chunk @ centers.T).argmin(1) for chunk in chunks])


def _mean_and_half_width(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import t

    count = np.isfinite(values).sum(0)
    kept = np.where(np.isfinite(values), values, 0.0)
    mean = np.where(count > 0, kept.sum(0) / np.maximum(count, 1), np.nan)
    squares = np.where(np.isfinite(values), (values - mean) ** 2, 0.0).sum(0)
    freedom = np.maximum(count - 1, 1)
    half = t.ppf(0.975, freedom) * np.sqrt(squares / freedom / np.maximum(count, 1))
    return mean, np.where(count > 1, half, 0.0)


def _spread(heights: list[float], gap: float) -> list[float]:
    """Sorted heights, moved so that neighbors keep the gap: groups that touch keep their common middle."""
    groups: list[list[float]] = []  # each group: [middle, size]
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (middle, size), (other, more) = groups.pop(), groups.pop()
            groups.append([(middle * size + other * more) / (size + more), size + more])
    return [middle + gap * (i - (size - 1) / 2) for middle, size in groups for i in range(size)]


def _one_line(text: str) -> str:
    return " ".join(text.split())
