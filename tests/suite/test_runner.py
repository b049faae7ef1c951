"""Many chapters on this machine: failures stay alone, Ctrl-C keeps what is finished; test_cluster.py goes beyond."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import chapter, make_house

from reprise.suite.errors import RepriseError
from reprise.suite.runner import run_chapters

REPRISE = [str(Path(sys.executable).with_name("reprise"))]


@pytest.fixture
def three(tmp_path):
    """A good chapter, one that raises, and one whose kernel is killed."""
    return make_house(
        tmp_path,
        {
            "tiny-a": chapter("tiny-a"),
            "tiny-b": chapter("tiny-b", "raise ValueError('boom')"),
            "tiny-c": chapter("tiny-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        },
    )


def reprise(root, *arguments, **more):
    return subprocess.run(
        [*REPRISE, *arguments], env=os.environ | {"REPRISE_ROOT": str(root)}, capture_output=True, text=True, **more
    )


def test_failed_chapters_do_not_stop_the_run_and_show_in_the_exit_code(three):
    done = reprise(three.root, "run")
    assert done.returncode == 1
    assert "tiny-a: " in done.stdout
    assert "FAILED" in done.stdout
    assert "2 of 3 chapters failed: tiny-b, tiny-c" in done.stdout
    assert three.notebook("memory", "tiny-a").is_file()
    assert not three.notebook("memory", "tiny-b").exists()
    assert (three.build / "failed" / "tiny-b.ipynb").is_file()

    three.source("memory", "tiny-b").write_text(chapter("tiny-b"))
    three.source("memory", "tiny-c").write_text(chapter("tiny-c"))
    written = three.notebook("memory", "tiny-a").stat().st_mtime_ns
    again = reprise(three.root, "run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "tiny-a:" not in again.stdout  # finished chapters are not executed again
    assert three.notebook("memory", "tiny-a").stat().st_mtime_ns == written
    assert "Nothing to execute: 3 chapters are fresh." in reprise(three.root, "run").stdout


def test_ctrl_c_keeps_finished_chapters_and_half_writes_nothing(tmp_path):
    made = make_house(
        tmp_path, {"tiny-a": chapter("tiny-a"), "tiny-z": chapter("tiny-z", "import time; time.sleep(120)")}
    )
    process = subprocess.Popen(
        [*REPRISE, "run"],
        env=os.environ | {"REPRISE_ROOT": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores Ctrl-C
    )
    deadline = time.monotonic() + 90
    while not made.notebook("memory", "tiny-a").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "not finished: tiny-z. Run again to go on." in output
    assert "Traceback" not in output
    assert [p.name for p in made.notebook("memory", "tiny-a").parent.iterdir()] == ["tiny-a.ipynb"]


def test_a_scheduler_that_does_not_answer_is_named(three):
    with pytest.raises(RepriseError, match="No Dask scheduler answers at tcp://127.0.0.1:1"):
        run_chapters(three, ["tiny-a"], scheduler="tcp://127.0.0.1:1")
