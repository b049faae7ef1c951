"""Explorers: interactive figures that need no kernel.

Every combination of a small grid is drawn once. With ipywidgets 8, sliders are joined in the browser (`jslink`) to
nested `Stack`s of images, so the figure moves in Jupyter and on the static site alike. Colab has ipywidgets 7,
which knows no `Stack` but always has a live kernel: there the slider's observer replaces the bytes of one image.
"""

import html
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from reprise.suite import plots

MOST_FRAMES = 48
SCALE = 1.5  # explorers carry many images: sharp enough on dense screens, at two thirds of the bytes of scale 2
COLUMN = 680


def explore(
    draw: Callable[..., Figure],
    *,
    alt: str,
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, object] | None = None,
    **grid: Sequence,
) -> widgets.Widget:
    """An interactive figure with one slider per name of the grid; the widget, for the last line of a cell.

    Args:
        draw: called once for every combination, in the order of the grid (the last name changes fastest), with
            one value per name; returns a figure made by `plots.figure`, always of the same size.
        alt: what moving the sliders shows; stands below the figure for who cannot see it.
        labels: name -> words beside its slider; the name itself where missing.
        start: name -> value at which the explorer opens; its first value where missing.
        grid: name -> values, at least two each; 12 to 24 combinations read well, 48 are the limit.
    Raises:
        ValueError: alt is empty, the grid is empty or too large, a label or start names nothing in the grid, or
            `draw` returns something else than a figure.
    """
    grid = {name: list(values) for name, values in grid.items()}
    labels, start = dict(labels or {}), dict(start or {})
    _check(alt, grid, labels, start)
    opens_at = {name: _position(name, values, start) for name, values in grid.items()}
    frames, size = _draw_all(draw, grid)
    sliders = [
        widgets.SelectionSlider(
            options=[(_text(value), i) for i, value in enumerate(values)],
            value=opens_at[name],
            description=labels.get(name, name),
            continuous_update=True,
            style={"description_width": "initial"},
            layout={"width": "100%", "max_width": f"{COLUMN}px"},
        )
        for name, values in grid.items()
    ]
    build = _stacked if hasattr(widgets, "Stack") else _observed
    picture = build(frames, sliders, size[0])
    words = widgets.HTML(f'<p class="reprise-explorer-alt">{html.escape(" ".join(alt.split()), quote=False)}</p>')
    explorer = widgets.VBox([*sliders, picture, words], layout={"max_width": f"{COLUMN}px"})
    explorer.add_class("reprise-explorer")
    return explorer


def _draw_all(
    draw: Callable[..., Figure], grid: dict[str, list]
) -> tuple[dict[tuple, tuple[bytes, str]], tuple[int, int]]:
    """Frames by their indices, as bytes and format, and the size at which they are shown."""
    frames, sizes = {}, set()
    for indices in itertools.product(*(range(len(values)) for values in grid.values())):
        values = {name: grid[name][i] for name, i in zip(grid, indices)}
        fig = draw(**values)
        try:
            plots.check_figure(fig)
        except ValueError as error:
            raise ValueError(f"draw({', '.join(f'{k}={v!r}' for k, v in values.items())}): {error}") from None
        sizes.add(tuple(round(side * plots.SHOWN_DPI) for side in fig.get_size_inches()))
        frames[indices] = plots.smallest(plots.quantize(plots.draw(fig, SCALE)))
    if len(sizes) > 1:
        raise ValueError(
            f"every frame of an explorer has the same size, not {sorted(sizes)}; fix width and height in draw"
        )
    return frames, sizes.pop()


def _stacked(frames, sliders, width) -> widgets.Widget:
    """ipywidgets 8: a Stack for the first slider holds one Stack per position for the next; links live in the page."""

    def level(indices: tuple) -> widgets.Widget:
        depth = len(indices)
        if depth == len(sliders):
            return _image(frames[indices], width)
        children = [level((*indices, i)) for i in range(len(sliders[depth].options))]
        stack = widgets.Stack(children, selected_index=sliders[depth].index, layout={"width": "100%"})
        widgets.jslink((sliders[depth], "index"), (stack, "selected_index"))
        return stack

    return level(())


def _observed(frames, sliders, width) -> widgets.Widget:
    """ipywidgets 7: one image whose bytes the kernel replaces."""
    at_start = tuple(slider.index for slider in sliders)
    image = _image(frames[at_start], width)

    def show(_) -> None:
        with image.hold_sync():
            image.value, image.format = frames[tuple(slider.index for slider in sliders)]

    for slider in sliders:
        slider.observe(show, names="index")
    return image


def _image(frame: tuple[bytes, str], width: int) -> widgets.Image:
    data, kind = frame
    return widgets.Image(value=data, format=kind, layout={"width": "100%", "max_width": f"{width}px", "height": "auto"})


def _text(value) -> str:
    """A value as its slider shows it: floats and anything like them in few digits."""
    if isinstance(value, str | bool | int):
        return str(value)
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)


def _position(name: str, values: list, start: dict) -> int:
    if name not in start:
        return 0
    wanted = start[name]
    for i, value in enumerate(values):
        if value is wanted or value == wanted or _text(value) == _text(wanted):
            return i
    raise ValueError(f"start: {name}={wanted!r} is not in the grid; choose one of {', '.join(map(_text, values))}")


def _check(alt: str, grid: dict[str, list], labels: dict, start: dict) -> None:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("an explorer needs alt=...: say in a sentence what moving its sliders shows")
    if not grid:
        raise ValueError("an explorer needs a grid, such as beta=[0.1, 1, 10]")
    for name, values in grid.items():
        if len(values) < 2:
            raise ValueError(
                f"the slider {name!r} needs at least two values, not {len(values)}; draw it as a picture instead"
            )
        if len({_text(value) for value in values}) < len(values):
            raise ValueError(f"the slider {name!r} shows the same text for two of its values; round them differently")
    count = math.prod(len(values) for values in grid.values())
    if count > MOST_FRAMES:
        sizes = " x ".join(str(len(values)) for values in grid.values())
        raise ValueError(f"{sizes} = {count} frames are too many for one page; at most {MOST_FRAMES}, better 12 to 24")
    for what, given in (("labels", labels), ("start", start)):
        for name in given:
            if name not in grid:
                raise ValueError(f"{what} names {name!r}, which is not in the grid ({', '.join(grid)})")
