"""Many chapters at once: Dask workers, a line per finished chapter, and nothing lost when one fails.

Workers of this machine execute chapters in the repository itself; those of a cluster get each chapter as a parcel.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time

from reprise.suite.errors import RepriseError
from reprise.suite.execution import Outcome, execute
from reprise.suite.house import House
from reprise.suite.parcel import execute_parcel, pack, unpack


def run_chapters(
    house: House,
    slugs: list[str],
    *,
    profile: str = "quick",
    device: str = "auto",
    first_seed: int = 100,
    folder: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    time_limit_s: float | None = None,
    needs_gpu: bool = False,
    report=print,
) -> list[Outcome]:
    """Execute chapters on Dask workers and report each as it ends; outcomes come in the order of `slugs`.

    Args:
        folder: where notebooks go, see `reprise.suite.execution.execute`.
        scheduler: address of a Dask scheduler, whose workers need the library but no folder of ours; None starts
            one-thread workers here, one per core.
        workers: number of local workers.
        needs_gpu: ask for the Dask resource `GPU: 1` (the workers have to be started with it).
    Raises:
        RepriseError: The scheduler cannot be reached.
        KeyboardInterrupt: Ctrl-C, after running chapters were stopped; finished ones are kept.
    """
    if not slugs:
        return []
    from distributed import as_completed

    arguments = {"device": device, "first_seed": first_seed, "time_limit_s": time_limit_s}
    outcomes: dict[str, Outcome] = {}
    with _client(house, scheduler, min(workers or os.cpu_count() or 1, len(slugs))) as client, _Ticker(slugs) as ticker:

        def submit(slug: str):
            options = {"key": f"{slug}-{time.time_ns()}", "pure": False, "retries": 2}
            options["resources"] = {"GPU": 1} if needs_gpu else None
            if scheduler:
                parcel = pack(house, slug, profile)
                return client.submit(execute_parcel, parcel, has_folder=folder is not None, **arguments, **options)
            own = {"root": str(house.root), "profile": profile, "folder": folder}
            return client.submit(execute, slug, **own, **arguments, **options)

        def note(outcome: Outcome) -> None:
            outcomes[outcome.slug] = outcome
            ticker.say(_line(outcome, len(outcomes), len(slugs)), report)

        futures = {}
        for slug in slugs:
            try:
                futures[submit(slug)] = slug
            except RepriseError as error:
                note(Outcome(slug, error=str(error)))
        if lack := _lack(client, needs_gpu):
            ticker.say(lack, report)
        try:
            for future in as_completed(futures):
                note(_outcome(future, futures[future], house, folder))
        except KeyboardInterrupt:
            client.cancel(list(futures), force=True)
            left = [slug for slug in slugs if slug not in outcomes]
            ticker.say(
                f"Stopped. {len(outcomes)} chapters are kept; not finished: {', '.join(left)}. Run again to go on.",
                report,
            )
            raise
    return [outcomes[slug] for slug in slugs]


def _outcome(future, slug: str, house: House, folder: str | None) -> Outcome:
    """What became of one chapter; files that a cluster's worker made are put in their place here."""
    error = future.exception()
    if isinstance(error, ImportError):
        return Outcome(slug, error=f"the cluster cannot load the library ({error}): install the same commit there.")
    if error is not None:
        return Outcome(slug, error=f"its worker was lost ({error})")
    result = future.result()
    if isinstance(result, Outcome):
        return result
    outcome, made = result
    try:
        unpack(made, house, folder)
    except RepriseError as refused:
        return Outcome(slug, outcome.seconds, outcome.peak_mb, error=str(refused))
    return outcome


def _lack(client, needs_gpu: bool) -> str:
    """What the cluster would need for the chapters to begin; empty where it has it. It may still be growing."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        return "Waiting for a worker: start one by `dask worker ADDRESS`."
    if needs_gpu and not any(worker["resources"].get("GPU", 0) >= 1 for worker in workers):
        return 'Waiting for a worker with a GPU: start one by `dask worker ADDRESS --resources "GPU=1"`.'
    return ""


def _line(outcome: Outcome, number: int, total: int) -> str:
    head = f"[{number}/{total}] {outcome.slug}"
    if outcome.is_ok:
        return f"{head}: {outcome.seconds:.0f} s, {outcome.peak_mb:.0f} MB"
    return f"{head}: FAILED after {outcome.seconds:.0f} s: {outcome.error}"


class _Ticker:
    """On a terminal, one status line with the elapsed time; elsewhere silent between chapters."""

    def __init__(self, slugs: list[str]):
        self.total, self.done, self.started, self.stop = len(slugs), 0, time.monotonic(), threading.Event()
        self.lock = threading.Lock()

    def __enter__(self):
        if sys.stderr.isatty():
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self._clear()

    def say(self, line: str, report) -> None:
        with self.lock:
            self.done += line.startswith("[")
            self._clear()
            report(line)

    def _tick(self):
        while not self.stop.wait(1):
            width = 24
            filled = width * self.done // self.total
            seconds = int(time.monotonic() - self.started)
            with self.lock:
                print(f"\r{'█' * filled}{'·' * (width - filled)} {self.done}/{self.total} chapters, {seconds} s",
                      end="", file=sys.stderr, flush=True)  # fmt: skip

    def _clear(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _client(house: House, scheduler: str | None, workers: int):
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({"distributed.worker.daemon": False, "distributed.scheduler.allowed-failures": 2})
    for name in ("distributed", "asyncio", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, TimeoutError) as error:
            raise RepriseError(
                f"No Dask scheduler answers at {scheduler}: start one with `dask scheduler`, or leave --scheduler out."
            ) from error
        with client:
            yield client
        return
    with _ctrl_c_ignored():  # workers inherit this, so that Ctrl-C is this process's business alone
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port, so that two runs do not meet
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            local_directory=str(house.build / "dask"),
            resources={"GPU": 1},
        )
    try:
        with Client(cluster) as client:
            yield client
    finally:
        with contextlib.suppress(TimeoutError):  # on a busy machine workers are slow to leave, and no chapter waits
            cluster.close()


@contextlib.contextmanager
def _ctrl_c_ignored():
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
