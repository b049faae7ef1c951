"""One chapter from its source to an executed, stamped notebook: jupytext, then papermill, then the record."""

import base64
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from reprise.suite import evidence, progress
from reprise.suite.catalogue import Card, find_card, load_cards
from reprise.suite.digest import digest
from reprise.suite.errors import RepriseError
from reprise.suite.house import House, repository_url, write_atomically

TIME_LIMIT_S = {"quick": 600, "full": 7200}
STATES = ("not written", "never run", "stale", "edited by hand", "prose changed", "fresh")


@dataclass(frozen=True)
class Outcome:
    """How the execution of one chapter ended; `error` is empty where it went well."""

    slug: str
    seconds: float = 0.0
    peak_mb: float = 0.0
    error: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.error


# --- source and notebook ----------------------------------------------------------------------------------------------


def read_source(house: House, card: Card) -> NotebookNode:
    """A chapter's source as a notebook without outputs; its first code cell installs the library where it is missing.

    Raises:
        RepriseError: No source, or one that jupytext cannot read.
    """
    path = house.source(card.part, card.slug)
    if not path.is_file():
        raise RepriseError(
            f"The chapter {card.slug!r} is not written yet: `reprise new {card.slug}` lays it out at {path}."
        )
    try:
        notebook = jupytext.read(path, fmt="md:myst")
    except Exception as error:
        raise RepriseError(f"{path} is not a MyST-Markdown notebook: {error}") from error
    cells = [cell for cell in notebook.cells if not cell.metadata.get("reprise_setup")]
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    cells.insert(first, nbformat.v4.new_code_cell("", metadata={"tags": ["remove-cell"], "reprise_setup": True}))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03}"
    notebook.cells = cells
    _set_up(notebook, {})
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


SETUP = """\
# Installs the library where it is missing (Colab, a bare kernel). The numbers are what the long cells below took on
# record, in seconds, so that a live run can show how far it is.
try:
    from reprise.suite import progress
except ImportError:
    import sys

    print("Installing the library and what it needs; this may take a minute or two.")
    %pip install -q "reprise @ git+{address}"
    sys.modules.pop("reprise", None)  # until now the name may have stood for a folder
    from reprise.suite import progress

progress.watch({seconds})"""


def _set_up(notebook: NotebookNode, cell_seconds: dict[str, int]) -> NotebookNode:
    """Write the notebook's first code cell; `cell_seconds` as in the record."""
    setup = next(cell for cell in notebook.cells if cell.metadata.get("reprise_setup"))
    setup.source = SETUP.format(address=repository_url(), seconds=json.dumps(dict(cell_seconds), sort_keys=True))
    return notebook


def source_digest(card: Card, notebook: NotebookNode, profile: str = "quick") -> str:
    """Digest (see `reprise.suite.digest`) of a run of a chapter read by `read_source`.

    That of a full run ends with the cell that shows its evidence: what stands below draws, from the record too.
    """
    cells = [c.source for c in notebook.cells if c.cell_type == "code" and not c.metadata.get("reprise_setup")]
    if profile == "full":
        shows = [number for number, cell in enumerate(cells, 1) if "run.evidence()" in cell]
        cells = cells[: shows[0]] if shows else cells
    return digest(card, cells, profile=profile)


def seal(notebook: NotebookNode) -> str:
    """Fingerprint of all cells with their outputs, by which a notebook edited by hand is noticed."""
    content = [
        (cell.cell_type, cell.source, sorted(cell.metadata.get("tags", [])), cell.get("outputs", []))
        for cell in notebook.cells
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def state_of(house: House, card: Card) -> str:
    """One of STATES for a chapter."""
    if not house.source(card.part, card.slug).is_file():
        return "not written"
    path = house.notebook(card.part, card.slug)
    source = read_source(house, card)
    if not path.is_file():
        return "never run"
    executed = nbformat.read(path, as_version=4)
    record = executed.metadata.get("reprise", {})
    if record.get("digest") != source_digest(card, source):
        return "stale"
    if record.get("seal") != seal(executed):
        return "edited by hand"
    _set_up(source, record.get("cell_seconds", {}))
    return "fresh" if _same_text(source, executed) else "prose changed"


def _same_text(source: NotebookNode, executed: NotebookNode) -> bool:
    def view(notebook):
        return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]

    return view(source) == view(executed)


def refresh_prose(house: House, card: Card) -> None:
    """Take new prose into an executed notebook whose numbers are still fresh, without executing anything."""
    path = house.notebook(card.part, card.slug)
    source, executed = read_source(house, card), nbformat.read(path, as_version=4)
    old = [cell for cell in executed.cells if cell.cell_type == "code"]
    new = [cell for cell in source.cells if cell.cell_type == "code"]
    for fresh, kept in zip(new, old, strict=True):
        fresh.outputs, fresh.execution_count = kept.outputs, kept.execution_count
    source.metadata = executed.metadata
    _set_up(source, source.metadata.reprise.get("cell_seconds", {}))
    source.metadata.reprise["seal"] = seal(source)
    write_notebook(path, source)


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook atomically, in the one format in which notebooks are committed."""
    write_atomically(path, nbformat.writes(notebook, version=4) + "\n")


# --- execution --------------------------------------------------------------------------------------------------------


def execute(
    slug: str,
    *,
    root: str | None = None,
    profile: str = "quick",
    device: str = "auto",
    first_seed: int = 100,
    folder: str | None = None,
    time_limit_s: float | None = None,
) -> Outcome:
    """Execute one chapter and keep its notebook; whatever goes wrong inside is an Outcome and not an exception.

    Args:
        root: top folder of the repository.
        folder: where the executed notebook goes; None for its own place: `notebooks/<part>/` for a quick run,
            `data/evidence/` (the record) and `_build/full/` (the notebook) for a full one.
        time_limit_s: the chapter's kernel is stopped after this many seconds.
    """
    house = House(Path(root)) if root else House.here()
    started = time.monotonic()
    try:
        with _only_one(house, slug):
            notebook, peak_mb = _execute(
                house, slug, profile, device, first_seed, time_limit_s or TIME_LIMIT_S[profile]
            )
            seconds = notebook.metadata.reprise["seconds"]
            _keep(house, slug, profile, notebook, Path(folder) if folder else None)
        return Outcome(slug, seconds, peak_mb)
    except RepriseError as error:
        return Outcome(slug, time.monotonic() - started, error=str(error))
    except Exception as error:  # one chapter's failure must never end the run of the others
        return Outcome(slug, time.monotonic() - started, error=f"{type(error).__name__}: {error}")


def _execute(house, slug, profile, device, first_seed, time_limit_s) -> tuple[NotebookNode, float]:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import papermill_engines

    papermill_engines.register("reprise", _engine())

    card = find_card(slug, house)
    source = read_source(house, card)
    stamp = source_digest(card, source, profile)
    failed = house.build / "failed" / f"{slug}.ipynb"
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="reprise-") as scratch:
        before, after = Path(scratch) / "before.ipynb", Path(scratch) / "after.ipynb"
        write_notebook(before, source)
        watch = _Watch(time_limit_s)
        try:
            papermill.execute_notebook(
                before,
                after,
                parameters={"profile": profile, "device": device, "first_seed": first_seed},
                engine_name="reprise",
                kernel_name="python3",
                progress_bar=False,
                cwd=scratch,
                watch=watch,
                house=house,
            )
        except papermill.PapermillExecutionError as error:
            write_atomically(failed, after.read_text(encoding="utf-8"))
            raise RepriseError(
                f"cell {error.exec_count} raised {error.ename}: {_first_line(error.evalue)} "
                f"(the notebook with its traceback is {_short(failed, house)})."
            ) from error
        except DeadKernelError as error:
            if watch.overran:
                raise RepriseError(
                    f"overran its limit of {time_limit_s:g} s and was stopped: make it smaller, or give it more with "
                    "--time-limit."
                ) from error
            raise RepriseError(
                "its kernel died (killed, or out of memory); nothing was changed: look at its peak memory with "
                "`reprise status --budget` and run it again."
            ) from error
        notebook = nbformat.read(after, as_version=4)
    cell_seconds = _cell_seconds(notebook)
    _clean(notebook)
    _set_up(notebook, cell_seconds)
    record = _lift(notebook)
    record |= {"digest": stamp, "seconds": round(watch.seconds, 1), "peak_mb": round(watch.peak_mb)}
    record["cell_seconds"] = cell_seconds
    record["seal"] = seal(notebook)
    notebook.metadata["reprise"] = record
    return notebook, watch.peak_mb


def _cell_seconds(notebook: NotebookNode) -> dict[str, int]:
    """Seconds of the long cells, by the fingerprint of their source, as papermill measured them."""
    taken = {
        progress.fingerprint(cell.source): round(cell.metadata.get("papermill", {}).get("duration") or 0)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    return {name: seconds for name, seconds in taken.items() if seconds >= progress.LONG_S}


def _clean(notebook: NotebookNode) -> None:
    """Drop what papermill and the kernel add and nobody reads: injected cell, times, widths, unset layouts."""
    for state in notebook.metadata.get("widgets", {}).values():
        for model in state["state"].values():
            if model["model_name"] == "LayoutModel":  # some forty entries each, of which nearly all are null
                model["state"] = {name: value for name, value in model["state"].items() if value is not None}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]


def _lift(notebook: NotebookNode) -> dict:
    """Take the record out of the evidence cell's output. Raises RepriseError where there is none."""
    record = None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if evidence.MIME in output.get("data", {}):
                record = output.data.pop(evidence.MIME)
    if record is None:
        raise RepriseError("the chapter shows no evidence: `run.evidence()` must be the last expression of a cell.")
    return dict(record)


def _keep(house: House, slug: str, profile: str, notebook: NotebookNode, folder: Path | None) -> None:
    record = notebook.metadata.reprise
    curves = record.pop("curves", None)
    if profile == "full":
        place = folder or house.evidence
        kept = {name: value for name, value in record.items() if name not in ("seal", "cell_seconds")}
        if curves:
            write_atomically(place / f"{slug}.full.npz", base64.b64decode(curves))
        write_atomically(place / f"{slug}.full.json", json.dumps(kept, indent=1) + "\n")
        write_notebook((folder or house.build / "full") / f"{slug}.ipynb", notebook)
    else:
        card = find_card(slug, house)
        write_notebook(folder / f"{slug}.ipynb" if folder else house.notebook(card.part, slug), notebook)


@contextlib.contextmanager
def _only_one(house: House, slug: str):
    """Let one process at a time execute a chapter; a second one waits and says so."""
    from filelock import FileLock, Timeout

    (house.build / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(house.build / "locks" / f"{slug}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{slug}: another run is executing this chapter; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Watch:
    """Time, peak memory and deadline of one kernel."""

    def __init__(self, limit_s: float):
        self.limit_s, self.overran, self.seconds, self.peak_mb = limit_s, False, 0.0, 0.0

    @contextlib.contextmanager
    def over(self, pid: int):
        import psutil

        process, started, done = psutil.Process(pid), time.monotonic(), threading.Event()

        def look():
            while not done.wait(0.2):
                try:
                    self.peak_mb = max(self.peak_mb, _peak_mb(process))
                    if time.monotonic() - started > self.limit_s:
                        self.overran = True
                        process.kill()
                        return
                except psutil.Error:
                    return

        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        try:
            yield
        finally:
            done.set()
            looker.join()
            self.seconds = time.monotonic() - started


def _peak_mb(process) -> float:
    """Peak resident memory so far where the system keeps it (Linux), else the present one."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return process.memory_info().rss / 2**20


def _engine():
    """Papermill's engine with our watch and the kernel's environment: one thread, this repository."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine
    from traitlets.config import Config

    class Client(PapermillNotebookClient):
        def papermill_execute_cells(self):
            with self.nb_man.reprise_watch.over(self.km.provisioner.pid):
                super().papermill_execute_cells()

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, watch, house, **_):
            nb_man.reprise_watch = watch
            threads = os.environ.get("REPRISE_THREADS", "1")
            environment = os.environ | {
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "REPRISE_ROOT": str(house.root),
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            }
            # sockets in the file system: no other user of the machine can listen
            config = Config() if os.name == "nt" else Config({"KernelManager": {"transport": "ipc"}})
            client = Client(nb_man, kernel_name=kernel_name, timeout=None, startup_timeout=120, config=config)
            return client.execute(env=environment)

    return Engine


def _first_line(text: str) -> str:
    return (text or "").strip().splitlines()[0] if (text or "").strip() else ""


def _short(path: Path, house: House) -> str:
    return str(path.relative_to(house.root)) if path.is_relative_to(house.root) else str(path)


def written(house: House) -> dict[str, Card]:
    """The cards whose chapters have a source, by slug."""
    cards = load_cards(house)
    return {slug: card for slug, card in cards.items() if house.source(card.part, slug).is_file()}
