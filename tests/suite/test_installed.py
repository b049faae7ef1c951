"""A notebook that lies alone in a folder, on a kernel without the library: its first cell installs it, and all runs.

With a real chapter (minutes): `REPRISE_ALONE=SLUG pytest tests/suite/test_installed.py`.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sysconfig
import threading
import venv
from pathlib import Path

import nbformat
import pytest
from tiny import card, chapter, make_house

from reprise.suite.audit import compare, is_same_machine
from reprise.suite.catalogue import find_card
from reprise.suite.evidence import MIME, read_record
from reprise.suite.execution import read_source
from reprise.suite.house import PACKAGE, House, repository_url

HERE = House(PACKAGE.parents[1])
RECORD = {
    "slug": "tiny-a", "profile": "full", "first_seed": 100, "device": "a GPU", "seconds": 90,
    "versions": {"torch": "1"}, "evidence": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Address of a git repository with the library, and a tiny chapter's card and full record beside the real ones."""
    if not HERE.is_checkout:
        pytest.skip("needs a checkout of the repository")
    root = tmp_path_factory.mktemp("repository")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(HERE.root / name, root)
    shutil.copytree(PACKAGE, root / "lib/reprise", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE.root / "data/evidence", root / "data/evidence")
    (root / "lib/reprise/memory/tiny_a.yml").write_text(card("tiny-a"))
    (root / "data/evidence/tiny-a.full.json").write_text(json.dumps(RECORD))
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["update-server-info"]):
        subprocess.run([*git, *command], check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/.git"
    server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment that has what the library needs, but not the library; its Python."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=False)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
    Path(packages, "shared.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not followed
    return python


def run_alone(notebook, python, repository, folder):
    """Write the notebook into an empty folder, with the address of `repository`, and execute it by `python` there."""
    setup = next(c for c in notebook.cells if c.metadata.get("reprise_setup"))
    assert setup.source.count(f"git+{repository_url()}") == 1
    setup.source = setup.source.replace(repository_url(), repository)
    nbformat.write(notebook, folder / "alone.ipynb")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "REPRISE_ROOT")}
    # pip may fetch nothing but the repository: all that the library needs is there already
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "OMP_NUM_THREADS": "1"}
    code = (
        "import nbformat, nbclient; n = nbformat.read('alone.ipynb', 4); "
        "nbclient.NotebookClient(n, kernel_name='python3', allow_errors=True).execute(); "
        "nbformat.write(n, 'done.ipynb')"
    )
    done = subprocess.run([python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "done.ipynb", as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def errors(notebook):
    return [output for output in outputs(notebook) if output.output_type == "error"]


def record_of(notebook):
    return next(output.data[MIME] for output in outputs(notebook) if MIME in output.get("data", {}))


def test_a_notebook_alone_installs_the_library_and_finds_card_and_full_record(repository, bare, tmp_path):
    """The card comes from the installed package, and so does the full run on record; the header says which device."""
    middle = (
        "import reprise.suite.house\nfrom IPython.display import display\ndisplay(run, run.full_record())\n"
        "print(reprise.suite.house.PACKAGE, reprise.suite.house.repository_url())"
    )
    made = make_house(tmp_path / "house", {"tiny-a": chapter("tiny-a", middle)})
    (tmp_path / "empty").mkdir()
    executed = run_alone(read_source(made, find_card("tiny-a", made)), bare, repository, tmp_path / "empty")
    assert errors(executed) == []
    text = nbformat.writes(executed)
    said = [output.text for output in outputs(executed) if output.output_type == "stream" and "reprise" in output.text]
    package, address = said[-1].split()
    assert Path(package).is_relative_to(bare.parents[1])  # the library of the bare environment, not this one
    assert address == repository_url()
    assert "Installing the library" in text
    assert "<code>auto</code> found" in text
    assert "Recorded on a GPU" in text
    assert [entry["verdict"] for entry in record_of(executed)["evidence"]] == ["reproduced"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('profile = "quick"', 'profile = "huge"', "There is no profile 'huge': use one of quick, full."),
        ('device = "auto"', 'device = "gpu"', "There is no device 'gpu': use cpu, cuda or auto."),
        ('device = "auto"', 'device = "cuda"', 'device = "cuda" finds no GPU here'),
        ("first_seed = 100", 'first_seed = "1"', "first_seed is a whole number, zero or more, not '1'."),
    ],
)
def test_a_wrong_word_in_the_parameters_gets_one_clear_sentence(old, new, sentence, monkeypatch):
    from reprise.suite.chapter import begin
    from reprise.suite.errors import RepriseError

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    parameters: dict = {}
    exec('profile = "quick"\ndevice = "auto"\nfirst_seed = 100'.replace(old, new), parameters)
    with pytest.raises(RepriseError) as caught:
        begin("modern-hopfield", **{name: parameters[name] for name in ("profile", "device", "first_seed")})
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("slug", os.environ.get("REPRISE_ALONE", "").split())
def test_a_real_chapter_alone_gives_the_evidence_on_record(slug, repository, bare, tmp_path):
    """As `reprise verify` compares: to 1e-6 on the machine of the record, elsewhere no verdict becomes its opposite."""
    paper = find_card(slug, HERE)
    notebook = nbformat.read(HERE.notebook(paper.part, slug), as_version=4)
    executed = run_alone(notebook, bare, repository, tmp_path)
    assert errors(executed) == []
    kept, alone = read_record(slug, "quick", HERE), record_of(executed)
    changes = [change for change in compare(paper, kept, alone) if not change.is_timed]
    assert not [change for change in changes if change.is_flip or is_same_machine(kept, alone)]
