"""How far a long cell is, for a person who runs it live in Jupyter or Colab; it leaves nothing behind.

A notebook's first cell calls `watch` with the seconds that its long cells took on record. Where a program executes the
notebook (papermill, nbclient, CI) nothing is shown, so that no executed notebook holds a trace of it.
"""

import contextvars
import html
import threading
import time
import uuid
import zlib

LONG_S = 5.0  # cells from this many seconds on are worth a progress line
_watcher = None


def fingerprint(source: str) -> str:
    """The name by which a cell's recorded time is found again, eight hexadecimal characters of its source."""
    return f"{zlib.crc32(source.strip().encode()):08x}"


def watch(seconds: dict[str, float], after_s: float = LONG_S) -> None:
    """From the next cell on, show the elapsed time of a cell that takes long; does nothing outside IPython.

    Args:
        seconds: the time of long cells on record, quick profile on one core, by `fingerprint`.
        after_s: a cell without a time on record is long after this many seconds; one with is known to be.
    """
    global _watcher
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if (shell := get_ipython()) is None:
        return
    if _watcher is not None:  # the first cell was run once more
        _watcher.leave()
    _watcher = _Watcher(shell, seconds, after_s)


def line(elapsed_s: float, expected_s: float | None) -> str:
    """The progress in words, such as "12 s of about 40 s"."""
    if expected_s is None:
        return f"{elapsed_s:.0f} s so far"
    if elapsed_s > expected_s:
        return f"{elapsed_s:.0f} s so far, {expected_s:.0f} s on record"
    return f"{elapsed_s:.0f} s of about {expected_s:.0f} s"


def is_live(shell) -> bool:
    """Whether a person sits at the front end: only then does it offer to answer `input()`."""
    kernel = getattr(shell, "kernel", None)
    request = kernel.get_parent("shell") if kernel is not None else {}
    return bool(request.get("content", {}).get("allow_stdin"))


class _Watcher:
    """Two hooks of one shell, and between them a thread that counts."""

    def __init__(self, shell, seconds, after_s):
        self.shell, self.seconds, self.after_s = shell, seconds, after_s
        self.thread, self.done = None, threading.Event()
        shell.events.register("pre_run_cell", self.begin)
        shell.events.register("post_run_cell", self.end)

    def leave(self) -> None:
        self.shell.events.unregister("pre_run_cell", self.begin)
        self.shell.events.unregister("post_run_cell", self.end)
        self.end()

    def begin(self, info) -> None:
        self.end()
        if not is_live(self.shell):
            return
        is_quick = self.shell.user_ns.get("profile", "quick") == "quick"  # the record is that of a quick run
        expected_s = self.seconds.get(fingerprint(info.raw_cell)) if is_quick else None
        self.done = threading.Event()
        # in the cell's own context, so that the front end puts the line under this cell
        context, arguments = contextvars.copy_context(), (self._count, expected_s, self.done)
        self.thread = threading.Thread(target=context.run, args=arguments, daemon=True)
        self.thread.start()

    def end(self, result=None) -> None:
        if self.thread is not None:
            self.done.set()
            self.thread.join()
            self.thread = None

    def _count(self, expected_s, done) -> None:
        started, name, is_shown = time.monotonic(), uuid.uuid4().hex, False
        wait_s = self.after_s if expected_s is None else min(1.0, self.after_s)
        while not done.wait(wait_s):
            self._publish(_bundle(time.monotonic() - started, expected_s), name, update=is_shown)
            is_shown, wait_s = True, 1.0
        if is_shown:
            self._publish({"text/plain": "", "text/html": ""}, name, update=True)

    def _publish(self, data, name, update) -> None:
        self.shell.display_pub.publish(data=data, metadata={}, transient={"display_id": name}, update=update)


def _bundle(elapsed_s: float, expected_s: float | None) -> dict:
    words, bar = line(elapsed_s, expected_s), ""
    if expected_s is not None:
        bar = (
            f'<progress value="{min(elapsed_s, expected_s):.0f}" max="{expected_s:.0f}" aria-label="Progress of this '
            'cell" style="width:12em;margin-right:.75em;vertical-align:middle"></progress>'
        )
    return {"text/plain": words, "text/html": f"<div>{bar}{html.escape(words)}</div>"}
