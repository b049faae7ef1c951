"""Progress of a long cell: for a person at a live front end, and nothing of it anywhere else."""

import time

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from reprise.suite import progress

SLOW = "import time\ntime.sleep(1.6)\nprint('done')\n6 * 7"


@pytest.fixture(scope="module")
def kernel():
    """A client of a live kernel, as Jupyter and Colab are."""
    manager, client = start_new_kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code, is_live=True):
    """What the front end gets for one cell: the messages that show something, in order."""
    request = client.execute(code, allow_stdin=is_live)
    shown, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
        if message["msg_type"] in ("display_data", "update_display_data", "stream", "execute_result", "error"):
            shown.append(message)
    client.get_shell_msg(timeout=60)
    return shown


def words(messages):
    return [m["content"]["data"]["text/plain"] for m in messages if m["msg_type"].endswith("display_data")]


def watch(client, seconds, after_s):
    shown = run(client, f"from reprise.suite import progress\nprogress.watch({seconds}, after_s={after_s})")
    assert not shown, shown


def test_a_long_cell_with_a_time_on_record_shows_a_bar_that_goes_away(kernel):
    watch(kernel, {progress.fingerprint(SLOW): 30}, 0.3)
    shown = run(kernel, SLOW)
    assert words(shown) == ["0 s of about 30 s", "1 s of about 30 s", ""]
    first, last = shown[0]["content"], [m for m in shown if m["msg_type"].endswith("display_data")][-1]["content"]
    assert '<progress value="0" max="30"' in first["data"]["text/html"]
    assert last["data"] == {"text/plain": "", "text/html": ""}
    assert last["transient"] == first["transient"]
    rest = [m["content"] for m in shown if not m["msg_type"].endswith("display_data")]
    assert [c.get("text") or c["data"]["text/plain"] for c in rest] == ["done\n", "42"]


def test_without_a_time_on_record_the_elapsed_time_is_shown(kernel):
    watch(kernel, {}, 0.3)
    shown = run(kernel, SLOW)
    assert words(shown) == ["0 s so far", "1 s so far", ""]
    assert "<progress" not in shown[0]["content"]["data"]["text/html"]


def test_the_record_of_a_quick_run_says_nothing_of_a_full_one(kernel):
    watch(kernel, {progress.fingerprint(SLOW): 30}, 0.3)
    run(kernel, 'profile = "full"')
    assert words(run(kernel, SLOW))[0] == "0 s so far"
    run(kernel, "del profile")


def test_a_short_cell_shows_nothing(kernel):
    watch(kernel, {}, 5)
    assert [m["msg_type"] for m in run(kernel, SLOW)] == ["stream", "execute_result"]


def test_a_cell_that_fails_takes_its_line_away(kernel):
    watch(kernel, {}, 0.2)
    shown = run(kernel, "import time; time.sleep(0.5); 1 / 0")
    assert words(shown)[-1] == ""
    assert "error" in [m["msg_type"] for m in shown]


def test_the_first_cell_run_twice_shows_one_line(kernel):
    watch(kernel, {}, 0.3)
    watch(kernel, {}, 0.3)
    assert [m["msg_type"] for m in run(kernel, SLOW)].count("display_data") == 1


def test_a_program_that_executes_cells_gets_nothing(kernel):
    watch(kernel, {progress.fingerprint(SLOW): 30}, 0.2)
    assert [m["msg_type"] for m in run(kernel, SLOW, is_live=False)] == ["stream", "execute_result"]


def test_an_executed_notebook_holds_no_trace():
    """The same cells through nbclient, which jupyter-book and papermill use."""
    cells = [
        nbformat.v4.new_code_cell("from reprise.suite import progress\nprogress.watch({}, after_s=0.2)"),
        nbformat.v4.new_code_cell(SLOW),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "execute_result"]


def test_outside_ipython_nothing_happens():
    progress.watch({"00000000": 3})
    assert progress._watcher is None


@pytest.mark.parametrize(
    ("elapsed", "expected", "text"),
    [(12.4, 40, "12 s of about 40 s"), (52, 40, "52 s so far, 40 s on record"), (7, None, "7 s so far")],
)
def test_the_words(elapsed, expected, text):
    assert progress.line(elapsed, expected) == text
