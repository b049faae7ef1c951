"""`reprise run` with two workers against jupyter-book's own serial execution of the same chapters."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from common import report

from reprise.suite.execution import read_source, written
from reprise.suite.house import House

BIN = Path(sys.executable).parent


def ours(slugs) -> float:
    """Seconds of `reprise run --scratch` with two workers."""
    started = time.perf_counter()
    subprocess.run([BIN / "reprise", "run", "--scratch", "--workers", "2", *slugs], check=True)
    return time.perf_counter() - started


def theirs(house, cards, folder: Path) -> float:
    """Seconds of `jupyter-book build` with execution forced, on the same chapters without outputs."""
    for card in cards:
        nbformat.write(read_source(house, card), folder / f"{card.slug}.ipynb")
    jupytext.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Start")]), folder / "start.md")
    (folder / "_config.yml").write_text('title: t\nexecute: {execute_notebooks: "force", timeout: -1}\n')
    chapters = "".join(f"\n  - file: {card.slug}" for card in cards)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: start\nchapters:{chapters}\n")
    started = time.perf_counter()
    subprocess.run([BIN / "jupyter-book", "build", "-q", str(folder)], check=True, env=os.environ)
    return time.perf_counter() - started


if __name__ == "__main__":
    house = House.here()
    cards = list(written(house).values())
    folder = Path(tempfile.mkdtemp())
    parallel, serial = ours([card.slug for card in cards]), theirs(house, cards, folder)
    shutil.rmtree(folder)
    report(
        "execution",
        [{"chapters": len(cards), "reprise run (s)": parallel, "jupyter-book (s)": serial, "ratio": serial / parallel}],
        versions=("distributed", "jupyter-book", "papermill"),
    )
