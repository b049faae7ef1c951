"""Explorers on the site: what a notebook's widget state holds, as plain images and range inputs.

A notebook keeps an explorer as widgets, which Jupyter and Colab show. Their scripts weigh megabytes, so a page of the
site shows the same frames without them: each frame is a file of its own, fetched when a reader reaches for a slider.
"""

import base64
import html
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reprise.suite.explorers import SCALE

STATE, VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Slider:
    """Name, the texts of its positions, and the position at which it opens."""

    name: str
    options: list[str]
    index: int


@dataclass(frozen=True)
class Frame:
    """One image: its bytes and their format."""

    data: bytes
    format: str


@dataclass(frozen=True)
class Explorer:
    """Sliders, frames in the order of the grid (the last slider changes fastest), and the words below (HTML text)."""

    sliders: list[Slider]
    frames: list[Frame]
    words: str

    @property
    def opens_at(self) -> int:
        """Which frame is shown before any slider moves."""
        first = 0
        for slider in self.sliders:
            first = first * len(slider.options) + slider.index
        return first


def read_explorers(notebook: dict) -> dict[str, Explorer]:
    """Every explorer that a notebook shows, by the id of its view, in the order of its cells."""
    states = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    views = [
        output["data"][VIEW]["model_id"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if VIEW in output.get("data", {})
    ]
    found = {view: _explorer(states[view]["state"], states) for view in views if view in states}
    return {view: explorer for view, explorer in found.items() if explorer}


def _explorer(box: dict, states: dict) -> Explorer | None:
    if "reprise-explorer" not in box.get("_dom_classes", ()):
        return None
    children = list(_models(box, states))
    picture = next((child for child in children if child["model_name"] == "StackModel"), None)
    if picture is None:  # made by ipywidgets 7, where a kernel draws
        return None
    sliders = [
        Slider(child["state"]["description"], list(child["state"]["_options_labels"]), child["state"]["index"])
        for child in children
        if child["model_name"] == "SelectionSliderModel"
    ]
    words = next(child["state"]["value"] for child in children if child["model_name"] == "HTMLModel")
    words = words.removeprefix('<p class="reprise-explorer-alt">').removesuffix("</p>")
    return Explorer(sliders, list(_frames(picture, states)), words)


def _models(state: dict, states: dict) -> Iterator[dict]:
    return (states[reference.removeprefix("IPY_MODEL_")] for reference in state["children"])


def _frames(node: dict, states: dict) -> Iterator[Frame]:
    if node["model_name"] == "StackModel":
        for child in _models(node["state"], states):
            yield from _frames(child, states)
    else:
        (buffer,) = node["buffers"]
        yield Frame(base64.b64decode(buffer["data"]), node["state"]["format"])


def figure(explorer: Explorer, name: str, outdir: Path, root: str, more: str = "") -> str:
    """The explorer as HTML; its frames become files of the site.

    Args:
        explorer: as read from a notebook.
        name: of its files and anchors, unlike that of any other explorer on the site.
        outdir: folder of the built site; frames go to `_images`.
        root: the way from the page to that folder, such as "../../".
        more: HTML text after the explorer's own words.
    """
    sources = []
    for number, frame in enumerate(explorer.frames):
        path = Path("_images") / f"explorer-{name}-{number}.{frame.format}"
        (outdir / path).parent.mkdir(parents=True, exist_ok=True)
        (outdir / path).write_bytes(frame.data)
        sources.append(root + path.as_posix())
    first, id_ = explorer.opens_at, f"explorer-{name}"
    with Image.open(io.BytesIO(explorer.frames[first].data)) as image:
        width, height = (round(side / SCALE) for side in image.size)
    readings = ", ".join(f"{slider.name} = {slider.options[slider.index]}" for slider in explorer.sliders)
    return (
        f'<figure class="reprise-explorer" id="{id_}" data-frames="{html.escape(json.dumps(sources))}">'
        f'<div class="reprise-sliders pst-js-only">'
        f"{''.join(_input(slider, f'{id_}-{i}') for i, slider in enumerate(explorer.sliders))}</div>"
        f'<img src="{sources[first]}" alt="{html.escape(readings)}" aria-describedby="{id_}-words" '
        f'width="{width}" height="{height}">'
        f'<figcaption id="{id_}-words">{explorer.words}{more}</figcaption></figure>'
    )


def _input(slider: Slider, id_: str) -> str:
    # the reading is hidden from screen readers, because the slider itself says it; its room is that of the longest
    reading, longest = html.escape(slider.options[slider.index]), max(map(len, slider.options))
    return (
        f'<div><label for="{id_}">{html.escape(slider.name)}</label>'
        f'<input id="{id_}" type="range" min="0" max="{len(slider.options) - 1}" value="{slider.index}" '
        f'aria-valuetext="{reading}" data-options="{html.escape(json.dumps(slider.options))}">'
        f'<output for="{id_}" aria-hidden="true" style="min-width: {longest}ch">{reading}</output></div>'
    )
