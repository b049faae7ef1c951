"""A real Dask cluster of separate processes, as on several machines: chapters travel, a lost worker loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import chapter, make_house

from reprise.suite.catalogue import find_card
from reprise.suite.evidence import read_record
from reprise.suite.execution import state_of
from reprise.suite.house import House
from reprise.suite.parcel import execute_parcel, pack, unpack
from reprise.suite.runner import _outcome, run_chapters

BIN = Path(sys.executable).parent


class Cluster:
    """`dask scheduler` and `dask worker` as processes of their own on the loopback interface."""

    def __init__(self, folder: Path, workers: int):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file))
        wait_for(self.file.is_file)
        self.address = json.loads(self.file.read_text())["address"]
        self.workers = [self.worker() for _ in range(workers)]

    def worker(self, *options: str):
        return self.start("worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", *options)

    def start(self, *command: str):
        place = self.folder / f"{command[0]}-{len(self.processes)}"
        place.mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "REPRISE_ROOT"}
        with open(place / "log", "w") as log:
            process = subprocess.Popen([BIN / "dask", *command, "--no-dashboard"], cwd=place, env=environment,
                                       stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        self.processes.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            kill_with_children(process)


def kill_with_children(process) -> None:
    """SIGKILL for a process and its children at once, as when a machine loses its power."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def marking(slug: str, marks: Path, seconds: float) -> str:
    """A chapter that leaves a mark, named by itself and the worker that executes it, and then takes its time."""
    marks.mkdir(exist_ok=True)
    mark = f"pathlib.Path({str(marks)!r}, f'{slug}.{{os.getppid()}}').touch()"
    return chapter(slug, f"import os, pathlib, time\n{mark}\ntime.sleep({seconds})")


def test_a_worker_killed_in_the_middle_of_a_run_loses_nothing(tmp_path):
    """`reprise run --scheduler` on three workers, one of which is killed while it executes a chapter."""
    marks, slugs = tmp_path / "marks", [f"tiny-{letter}" for letter in "abcdef"]
    made = make_house(tmp_path / "house", {slug: marking(slug, marks, 1.5) for slug in slugs})
    with Cluster(tmp_path, workers=3) as cluster:
        run = subprocess.Popen(
            [BIN / "reprise", "run", "--scheduler", cluster.address], env=os.environ | {"REPRISE_ROOT": str(made.root)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_for(lambda: any(marks.iterdir()))
        slug, pid = next(marks.iterdir()).name.split(".")
        kill_with_children(next(worker for worker in cluster.workers if worker.pid == os.getpgid(int(pid))))
        output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output
    assert "[6/6]" in output
    assert "FAILED" not in output
    assert {state_of(made, find_card(slug, made)) for slug in slugs} == {"fresh"}
    assert sorted(p.name for p in (made.root / "notebooks/memory").iterdir()) == [f"{slug}.ipynb" for slug in slugs]
    tries = [mark.name for mark in marks.iterdir() if mark.name.startswith(slug)]
    assert len(tries) == 2, "the lost chapter was executed again, by another worker"


def test_a_chapter_that_needs_a_gpu_waits_for_a_worker_that_offers_one(tmp_path):
    marks, said = tmp_path / "marks", []
    made = make_house(tmp_path / "house", {slug: marking(slug, marks, 0) for slug in ("tiny-a", "tiny-b")})
    with Cluster(tmp_path, workers=1) as cluster:
        wait_for(lambda: "Registered to" in (tmp_path / "worker-1/log").read_text())

        def report(line):
            said.append(line)
            if "a worker with a GPU" in line:
                cluster.worker("--resources", "GPU=1")

        outcomes = run_chapters(made, ["tiny-a", "tiny-b"], scheduler=cluster.address, needs_gpu=True, report=report)
        workers = {int(mark.name.split(".")[1]) for mark in marks.iterdir()}
        assert [os.getpgid(pid) for pid in workers] == [cluster.processes[-1].pid]
    assert all(outcome.is_ok for outcome in outcomes), outcomes
    assert said[0].startswith('Waiting for a worker with a GPU: start one by `dask worker ADDRESS --resources "GPU=1"`')


# --- parcels, without a cluster ---------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    return make_house(tmp_path / "house", {"tiny-a": chapter("tiny-a", "run.keep(loss=[1.0, 0.5])\nrun.full_record()")})


def travel(made, profile="quick", folder=None):
    arguments = {"device": "cpu", "first_seed": 100, "time_limit_s": None}
    parcel = pack(made, "tiny-a", profile)
    outcome, files = execute_parcel(parcel, has_folder=folder is not None, **arguments)
    unpack(files, made, folder)
    return outcome, files


def test_a_parcel_brings_back_the_notebook_and_nothing_else(made):
    outcome, files = travel(made)
    assert outcome.is_ok, outcome.error
    assert list(files) == ["notebooks/memory/tiny-a.ipynb"]
    assert state_of(made, find_card("tiny-a", made)) == "fresh"


def test_a_full_run_brings_back_its_record_and_sees_the_one_before(made):
    (made.root / "data/evidence").mkdir(parents=True)
    assert set(travel(made, "full")[1]) == {
        "_build/full/tiny-a.ipynb",
        "data/evidence/tiny-a.full.json",
        "data/evidence/tiny-a.full.npz",
    }
    assert read_record("tiny-a", "full", made)["profile"] == "full"
    travel(made)
    assert "Recorded on CPU" in made.notebook("memory", "tiny-a").read_text()


def test_another_folder_gets_the_notebook_where_it_was_asked_for(made, tmp_path):
    travel(made, folder=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "tiny-a.ipynb").is_file()
    assert not made.notebook("memory", "tiny-a").exists()


def test_a_failed_chapter_brings_back_its_traceback(made):
    source = made.source("memory", "tiny-a")
    source.write_text(source.read_text().replace("run.full_record()", "1 / 0"))
    outcome, files = travel(made)
    assert "ZeroDivisionError" in outcome.error
    assert list(files) == ["_build/failed/tiny-a.ipynb"]
    assert (made.build / "failed/tiny-a.ipynb").is_file()


def test_a_worker_with_another_version_of_the_library_refuses(made):
    parcel = replace(pack(made, "tiny-a", "quick"), digest="0" * 64)
    outcome, files = execute_parcel(parcel, has_folder=False, device="cpu", first_seed=100, time_limit_s=None)
    assert "has another version of the library than this repository: install the same commit" in outcome.error
    assert files == {}


def test_an_unreadable_source_is_one_failed_chapter(made):
    made.source("memory", "tiny-a").write_text("---\njupytext: {\n---\n")
    with Cluster(made.root, workers=0) as cluster:
        said = []
        (outcome,) = run_chapters(made, ["tiny-a"], scheduler=cluster.address, report=said.append)
    assert "is not a MyST-Markdown notebook" in outcome.error


def test_a_cluster_without_the_library_is_told_so():
    class Lost:
        def exception(self):
            return ModuleNotFoundError("No module named 'reprise'")

    outcome = _outcome(Lost(), "tiny-a", House(Path("/nowhere")), None)
    assert "cannot load the library (No module named 'reprise'): install the same commit there" in outcome.error
