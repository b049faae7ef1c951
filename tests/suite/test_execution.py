"""One chapter executed: the record, the states, and every fault that leaves the old notebook as it was."""

import errno
import json
import os
import threading
import time

import nbformat
import numpy as np
import pytest
from tiny import chapter, fence, make_house

from reprise.suite import execution, house, progress
from reprise.suite.catalogue import find_card
from reprise.suite.chapter import FullRecord
from reprise.suite.errors import RepriseError
from reprise.suite.evidence import MIME, read_record
from reprise.suite.execution import execute, read_source, refresh_prose, repository_url, state_of


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A repository with one executed chapter."""
    made = make_house(tmp_path_factory.mktemp("house"), {"tiny-a": chapter("tiny-a", "run.keep(loss=[1.0, 0.5])")})
    outcome = execute("tiny-a", root=str(made.root))
    assert outcome.is_ok, outcome.error
    return made


@pytest.fixture
def fresh(executed, tmp_path):
    """A copy of the executed repository that a test may spoil."""
    import shutil

    shutil.copytree(executed.root, tmp_path / "copy")
    return house.House(tmp_path / "copy")


def notebook_of(made, slug="tiny-a"):
    return nbformat.read(made.notebook("memory", slug), as_version=4)


def edit_source(made, old, new):
    path = made.source("memory", "tiny-a")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def state(made, slug="tiny-a"):
    return state_of(made, find_card(slug, made))


def test_the_record_holds_what_the_design_names(executed):
    record = read_record("tiny-a", "quick", executed)
    assert {"slug", "digest", "profile", "first_seed", "device", "machine", "versions", "seconds", "peak_mb"} <= set(
        record
    )
    entry = record["evidence"][0]
    assert set(entry) == {"claim", "effects", "mean", "low", "high", "margin", "verdict"}
    assert entry["effects"] == [1.0 + 0.01 * (s % 7) for s in range(100, 105)]
    assert entry["verdict"] == "reproduced"
    assert record["peak_mb"] > 50


def test_an_executed_notebook_carries_no_trace_of_the_runner(executed):
    notebook = notebook_of(executed)
    assert "papermill" not in notebook.metadata
    assert not any("injected-parameters" in c.metadata.get("tags", []) for c in notebook.cells)
    assert not any("papermill" in c.metadata for c in notebook.cells)
    assert not any(MIME in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", []))
    assert str(executed.root) not in nbformat.writes(notebook)


def test_the_first_code_cell_installs_from_the_one_address(executed):
    first = next(c for c in notebook_of(executed).cells if c.cell_type == "code")
    assert f"git+{repository_url()}" in first.source
    assert first.source.startswith("# Installs the library where it is missing")


def test_the_seconds_of_long_cells_go_with_the_notebook(tmp_path, monkeypatch):
    """They stand in the record and in the first cell, survive new prose, and are no reason to run anything again."""
    monkeypatch.setattr(progress, "LONG_S", 1)
    made = make_house(tmp_path, {"tiny-a": chapter("tiny-a", "import time\ntime.sleep(1.2)")})
    assert execute("tiny-a", root=str(made.root)).is_ok
    name = progress.fingerprint("import time\ntime.sleep(1.2)")
    times = read_record("tiny-a", "quick", made)["cell_seconds"]
    assert times[name] in (1, 2)
    assert state(made) == "fresh"
    edit_source(made, "Some prose.", "Some better prose.")
    refresh_prose(made, find_card("tiny-a", made))
    assert state(made) == "fresh"
    first = next(c for c in notebook_of(made).cells if c.cell_type == "code")
    assert f"progress.watch({json.dumps(times)})" in first.source


def test_an_executed_chapter_is_fresh(executed):
    assert state(executed) == "fresh"


def test_another_sentence_changes_prose_only_and_is_taken_over_without_running(fresh):
    edit_source(fresh, "Some prose.", "Some better prose.")
    assert state(fresh) == "prose changed"
    before = read_record("tiny-a", "quick", fresh)
    refresh_prose(fresh, find_card("tiny-a", fresh))
    assert state(fresh) == "fresh"
    assert "Some better prose." in nbformat.writes(notebook_of(fresh))
    assert read_record("tiny-a", "quick", fresh) | {"seal": ""} == before | {"seal": ""}


def test_changed_code_is_stale(fresh):
    edit_source(fresh, "0.01 * (s % 7)", "0.02 * (s % 7)")
    assert state(fresh) == "stale"


def test_a_margin_changed_after_the_run_is_stale(fresh):
    path = fresh.card("memory", "tiny-a")
    path.write_text(path.read_text().replace("margin: 0.5", "margin: 0.1"))
    assert state(fresh) == "stale"


def test_a_notebook_edited_by_hand_is_noticed(fresh):
    path = fresh.notebook("memory", "tiny-a")
    notebook = notebook_of(fresh)
    cell = next(c for c in notebook.cells if c.get("outputs"))
    cell.outputs = []
    nbformat.write(notebook, path)
    assert state(fresh) == "edited by hand"


def test_a_chapter_without_source_is_not_written(executed):
    assert state_of(executed, find_card("lottery-ticket")) == "not written"
    with pytest.raises(RepriseError, match="reprise new lottery-ticket"):
        read_source(executed, find_card("lottery-ticket"))


# --- faults: each leaves the committed notebook as it was ------------------------------------------------------------


def spoil(made, middle, **more):
    """Put `middle` into the chapter, execute it, and return the outcome; the old notebook must survive."""
    edit_source(made, "run.keep(loss=[1.0, 0.5])", middle)
    before = made.notebook("memory", "tiny-a").read_bytes()
    outcome = execute("tiny-a", root=str(made.root), **more)
    assert not outcome.is_ok
    assert made.notebook("memory", "tiny-a").read_bytes() == before
    assert not list(made.notebook("memory", "tiny-a").parent.glob(".*"))
    return outcome


def test_a_cell_that_raises_keeps_its_traceback(fresh):
    outcome = spoil(fresh, "raise ValueError('boom')")
    assert "ValueError: boom" in outcome.error
    assert "_build/failed/tiny-a.ipynb" in outcome.error
    kept = nbformat.read(fresh.build / "failed" / "tiny-a.ipynb", as_version=4)
    assert any(o.output_type == "error" for c in kept.cells for o in c.get("outputs", []))


def test_a_killed_kernel_is_one_failed_chapter(fresh):
    outcome = spoil(fresh, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "kernel died" in outcome.error


def test_a_chapter_over_its_time_is_stopped(fresh):
    outcome = spoil(fresh, "import time; time.sleep(60)", time_limit_s=3)
    assert "overran its limit of 3 s" in outcome.error
    assert outcome.seconds < 30


def test_a_chapter_without_evidence_is_refused(fresh):
    edit_source(fresh, "run.evidence()", "pass")
    outcome = execute("tiny-a", root=str(fresh.root))
    assert "run.evidence()" in outcome.error


def test_effects_with_nan_fail_the_chapter(fresh):
    edit_source(fresh, "[1.0 + 0.01 * (s % 7) for s in run.seeds]", "[float('nan')] * 5")
    outcome = execute("tiny-a", root=str(fresh.root))
    assert "not finite" in outcome.error


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(house.os, "fsync", no_space)
    with pytest.raises(RepriseError, match="No space left on device.*what stood there before is intact"):
        house.write_atomically(path, "new" * 1000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.txt"]


def test_an_interrupted_write_leaves_no_half_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(house.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        house.write_atomically(tmp_path / "file.txt", "text")
    assert os.listdir(tmp_path) == []


def test_a_second_run_of_the_same_chapter_waits_and_says_so(tmp_path, capfd):
    made = make_house(tmp_path, {"tiny-a": chapter("tiny-a")})
    inside, order = threading.Event(), []

    def first():
        with execution._only_one(made, "tiny-a"):
            inside.set()
            time.sleep(0.5)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with execution._only_one(made, "tiny-a"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert "another run is executing this chapter; waiting" in capfd.readouterr().err


def test_a_full_run_is_kept_apart_with_its_curves(tmp_path):
    made = make_house(tmp_path, {"tiny-a": chapter("tiny-a", "run.keep(loss=[1.0, 0.5])")})
    (tmp_path / "data" / "evidence").mkdir(parents=True)
    outcome = execute("tiny-a", root=str(tmp_path), profile="full")
    assert outcome.is_ok, outcome.error
    record = read_record("tiny-a", "full", made)
    assert record["profile"] == "full"
    assert "curves" not in record
    assert made.full_curves("tiny-a").stat().st_size < 200_000
    assert not made.notebook("memory", "tiny-a").exists()


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    made = make_house(tmp_path, {"tiny-a": "---\njupytext: {\n---\n" + fence("x = 1")})
    outcome = execute("tiny-a", root=str(tmp_path))
    assert "tiny-a.md" in outcome.error
    del made


def test_what_stands_below_the_evidence_ages_no_full_run(executed):
    """A full run's record is made by then; a figure drawn from it is written later."""
    card = find_card("tiny-a", executed)
    source = read_source(executed, card)
    stamps = [execution.source_digest(card, source, profile) for profile in ("quick", "full")]
    below = nbformat.v4.new_code_cell("run.full_record()")
    source.cells.append(below)
    new = [execution.source_digest(card, source, profile) for profile in ("quick", "full")]
    assert new[0] != stamps[0]
    assert new[1] == stamps[1]
    source.cells.insert(next(i for i, c in enumerate(source.cells) if c.cell_type == "code"), below)
    assert execution.source_digest(card, source, "full") != stamps[1]


def test_the_first_cell_is_the_same_in_whatever_order_the_record_keeps_its_seconds(executed):
    """JSON sorts the record's keys when the notebook is written."""
    source = read_source(executed, find_card("tiny-a", executed))

    def first(seconds):
        cells = execution._set_up(source, seconds).cells
        return next(cell.source for cell in cells if cell.cell_type == "code")

    assert first({"b": 7, "a": 9}) == first({"a": 9, "b": 7}) != first({"a": 9})


def test_what_a_notebook_keeps_of_a_full_record_as_text_is_its_verdicts_alone():
    """Its card and curves weighed 60 KB in executed notebooks."""
    card = find_card("modern-hopfield")
    record = {"evidence": [{"claim": card.claims[0].id, "mean": 1.0, "low": 0.9, "high": 1.1, "verdict": "weaker"}]}
    text = repr(FullRecord(card, record, {"curve": np.zeros(1000)}))
    assert "weaker" in text
    assert card.claims[0].id in text
    assert "array" not in text
    assert card.claims[0].says not in text
    assert repr(FullRecord(card, None, {})) == "no full run on record"
