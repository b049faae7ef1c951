"""`reprise run` with two workers against jupyter-book's own serial execution of the same chapters.

All written chapters, or those named on the command line. What jupyter-book needs for the pages alone is measured first,
and taken off its time.
"""

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
    """Seconds that `jupyter-book build` takes longer where it executes the same chapters, without outputs so far."""
    for card in cards:
        nbformat.write(read_source(house, card), folder / f"{card.slug}.ipynb")
    jupytext.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Start")]), folder / "start.md")
    chapters = "".join(f"\n  - file: {card.slug}" for card in cards)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: start\nchapters:{chapters}\n")
    return build(folder, "force") - build(folder, "off")


def build(folder: Path, execute: str) -> float:
    """Seconds of one build from scratch; a cell that raises ends it."""
    (folder / "_config.yml").write_text(
        f'title: t\nexecute: {{execute_notebooks: "{execute}", timeout: -1}}\n'
        "sphinx: {config: {nb_execution_raise_on_error: true}}\n"
    )
    shutil.rmtree(folder / "_build", ignore_errors=True)
    started = time.perf_counter()
    subprocess.run([BIN / "jupyter-book", "build", "-q", str(folder)], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    house = House.here()
    known, named = written(house), [word for word in sys.argv[1:] if not word.startswith("-")]
    cards = [known[slug] for slug in named or known]
    folder = Path(tempfile.mkdtemp())
    parallel, serial = ours([card.slug for card in cards]), theirs(house, cards, folder)
    shutil.rmtree(folder)
    report(
        "execution",
        [{"chapters": len(cards), "reprise run (s)": parallel, "jupyter-book (s)": serial, "ratio": serial / parallel}],
        versions=("distributed", "jupyter-book", "papermill"),
    )
