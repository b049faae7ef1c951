"""The command line `reprise`. Each command says what it does, how far it is, and what went wrong in one sentence."""

import argparse
import shutil
import sys
from pathlib import Path

from reprise.suite.errors import RepriseError
from reprise.suite.house import House

BUDGET = {"seconds": 60, "seconds_at_most": 90, "mean_seconds": 50, "peak_mb": 1500, "bytes": 500_000}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 good, 1 something failed, 2 bad usage, 130 stopped by Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except RepriseError as error:
        print(f"reprise: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `reprise list | head`
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reprise", description="Execute, check and judge the chapters of Reprise.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, command, help_text, slugs=""):
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(command=command)
        if slugs:
            sub.add_argument("slugs", nargs=slugs, metavar="SLUG", help="papers, all written ones if none is named")
        return sub

    new = add("new", _new, "Lay out the files of a chapter, with a TODO wherever a person has to write.")
    new.add_argument("slug", metavar="SLUG")
    new.add_argument("--part", help="the part of a paper that has no card yet")
    add("list", _list, "List the papers by part.")
    check = add("check", _check, "Say what written chapters still lack, without executing them.", "*")
    del check
    status = add("status", _status, "Say which chapters are fresh, stale, or edited by hand.", "*")
    status.add_argument("--budget", action="store_true", help="print time, memory and size against the budget")
    run = add("run", _run, "Execute chapters that are stale (a full run: those named).", "*")
    run.add_argument("--profile", default="quick", help="quick (default) or full")
    run.add_argument("--force", action="store_true", help="execute fresh chapters, too")
    run.add_argument("--scratch", action="store_true", help="write to _build/scratch/ and change nothing else")
    verify = add("verify", _verify, "Execute chapters again and compare with the committed evidence.", "*")
    audit = add("audit", _audit, "Execute chapters with other seeds and report verdicts that change.", "*")
    for sub in (run, verify, audit):
        sub.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, e.g. tcp://host:8786")
        sub.add_argument("--workers", type=int, help="local workers, one per core if not given")
        sub.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
        sub.add_argument("--time-limit", type=float, metavar="S", help="stop a chapter after this many seconds")
    run.add_argument("--first-seed", type=int, default=100, help="default 100; other seeds need --scratch")
    audit.add_argument("--first-seed", type=int, required=True, help="other than 100")
    export = add("export", _export, "Write chapters as assignments for nbgrader, with the solutions inside.", "*")
    export.add_argument("--nbgrader", action="store_true", required=True, help="the format, the only one so far")
    export.add_argument("--out", type=Path, metavar="DIR", help="the course folder, _build/nbgrader if not given")
    evidence = add("evidence", _evidence, "Print the evidence on record for one paper.")
    evidence.add_argument("slug", metavar="SLUG")
    return parser


def _chosen(house: House, slugs: list[str]):
    """Cards of the written chapters that were named, or of all of them."""
    from reprise.suite.catalogue import find_card
    from reprise.suite.execution import read_source, written

    house.require_checkout()
    if not slugs:
        return list(written(house).values())
    cards = [find_card(slug, house) for slug in dict.fromkeys(slugs)]
    for card in cards:
        read_source(house, card)
    return cards


def _new(options) -> None:
    from reprise.suite.scaffold import lay_out

    house = House.here().require_checkout()
    made = lay_out(house, options.slug, options.part)
    for path in made:
        print(f"made {path.relative_to(house.root)}")
    if not made:
        print(f"{options.slug} has all its files already.")
    if made and made[0].suffix == ".yml":
        print(f"Next: fill in the card, then `reprise new {options.slug}` makes the other files from it.")
    else:
        print(
            f"Next: fill the TODOs, add the chapter to _toc.yml; `reprise check {options.slug}` says what is missing."
        )


def _list(options) -> None:
    from reprise.suite.catalogue import PARTS, load_cards

    house = House.here()
    cards = load_cards(house)
    for part, title in PARTS.items():
        print(f"\n{title} ({part})")
        for card in (c for c in cards.values() if c.part == part):
            is_written = house.source(card.part, card.slug).is_file()
            print(f"  {'●' if is_written else '○'} {card.slug:36} {card.title}")
    print("\n● written   ○ not written yet")


def _check(options) -> int:
    from reprise.suite.structure import missing

    house, lacking = House.here(), 0
    for card in _chosen(house, options.slugs):
        lacks = missing(house, card)
        lacking += bool(lacks)
        print(f"{card.slug}: {'complete' if not lacks else f'{len(lacks)} things to do'}")
        for sentence in lacks:
            print(f"  - {sentence}")
    return 1 if lacking else 0


def _status(options) -> int:
    from reprise.suite.evidence import read_record
    from reprise.suite.execution import read_source, source_digest, state_of

    house = House.here()
    cards, odd = _chosen(house, options.slugs), 0
    for card in cards:
        state = state_of(house, card)
        odd += state != "fresh"
        full = read_record(card.slug, "full", house)
        note = "no full run" if full is None else "full run on record"
        if full and full["digest"] != source_digest(card, read_source(house, card), "full"):
            note = "full run of an earlier version on record"
        print(f"{card.slug:36} {state:15} {note}")
        if options.budget:
            _print_budget(house, card)
    if odd:
        print(f"{odd} of {len(cards)} chapters need `reprise run`.")
    return 1 if odd else 0


def _print_budget(house: House, card) -> None:
    from reprise.suite.evidence import read_record

    record, path = read_record(card.slug, "quick", house, card.part), house.notebook(card.part, card.slug)
    if record is None:
        return
    size = path.stat().st_size
    over = []
    if record["seconds"] > BUDGET["seconds"]:
        over.append("time")
    if record["peak_mb"] > BUDGET["peak_mb"]:
        over.append("memory")
    if size > BUDGET["bytes"]:
        over.append("size")
    note = f"OVER BUDGET: {', '.join(over)}" if over else "within budget"
    print(f"{'':36} {record['seconds']:.0f} s, {record['peak_mb']} MB, {size / 1000:.0f} KB: {note}")


def _execute(house, cards, options, **more) -> bool:
    """Execute chapters; True where all went well."""
    from reprise.suite.runner import run_chapters

    outcomes = run_chapters(
        house,
        [card.slug for card in cards],
        device=options.device,
        first_seed=options.first_seed,
        scheduler=options.scheduler,
        workers=options.workers,
        time_limit_s=options.time_limit,
        **more,
    )
    failed = [outcome.slug for outcome in outcomes if not outcome.is_ok]
    if failed:
        print(f"{len(failed)} of {len(outcomes)} chapters failed: {', '.join(failed)}.")
    return not failed


def _run(options) -> int:
    from reprise.suite.catalogue import PROFILES
    from reprise.suite.execution import refresh_prose, state_of

    house = House.here()
    if options.profile not in PROFILES:
        raise RepriseError(f"There is no profile {options.profile!r}: use one of {', '.join(PROFILES)}.")
    if options.first_seed != 100 and not options.scratch:
        raise RepriseError(
            "Evidence on record starts at seed 100: add --scratch, or use `reprise audit` for other seeds."
        )
    cards = _chosen(house, options.slugs)
    if options.profile == "full" and not options.slugs:
        raise RepriseError(
            "Name the chapters of a full run: each takes minutes on a GPU or up to half an hour on a CPU."
        )
    folder = str(house.build / "scratch") if options.scratch else None
    if options.profile == "quick" and not options.force and not options.scratch:
        states = {card.slug: state_of(house, card) for card in cards}
        for card in cards:
            if states[card.slug] == "prose changed":
                refresh_prose(house, card)
                print(f"{card.slug}: prose taken over, numbers unchanged")
        fresh = [c for c in cards if states[c.slug] in ("fresh", "prose changed")]
        cards = [card for card in cards if card not in fresh]
        if fresh and not cards:
            print(f"Nothing to execute: {len(fresh)} chapters are fresh.")
    is_good = _execute(house, cards, options, profile=options.profile, folder=folder,
                       needs_gpu=options.profile == "full" and options.device == "cuda")  # fmt: skip
    return 0 if is_good else 1


def _again(options, folder: Path, judge) -> int:
    house = House.here()
    cards = _chosen(house, options.slugs)
    shutil.rmtree(folder, ignore_errors=True)
    is_executed = _execute(house, cards, options, folder=str(folder))
    lines, is_good = judge(cards, house, folder)
    print("\n".join(lines))
    return 0 if is_executed and is_good else 1


def _verify(options) -> int:
    from reprise.suite.audit import verify
    from reprise.suite.execution import state_of

    options.first_seed = 100
    house = House.here()
    never = [card.slug for card in _chosen(house, options.slugs) if state_of(house, card) == "never run"]
    if never:
        raise RepriseError(f"No evidence is on record for {', '.join(never)}: `reprise run` makes it.")
    return _again(options, house.build / "verify", verify)


def _audit(options) -> int:
    from reprise.suite.audit import audit

    if options.first_seed < 100:
        raise RepriseError("Seeds 0 to 99 were used for tuning: audit with seeds from 100 on, for example 1000.")
    return _again(options, House.here().build / "audit", audit)


def _export(options) -> None:
    from reprise.suite.assignments import export

    house = House.here()
    folder = options.out or house.build / "nbgrader"
    made = export(house, _chosen(house, options.slugs), folder)
    for path in made:
        print(f"made {path}")
    name = made[0].stem if len(made) == 1 else "NAME"
    print(f"Next: in {folder}, `nbgrader generate_assignment {name}` writes what students get to release/.")


def _evidence(options) -> int:
    from reprise.suite.catalogue import find_card
    from reprise.suite.evidence import as_text, read_record

    house = House.here()
    card, found = find_card(options.slug, house), False
    for profile in ("quick", "full"):
        record = read_record(card.slug, profile, house, card.part if profile == "quick" else None)
        if record:
            found = True
            print(f"{profile} run, {record['device']}, {record['seconds']:.0f} s, seeds from {record['first_seed']}")
            print(as_text(card, record))
    if not found:
        raise RepriseError(f"No run of {card.slug!r} is on record: `reprise run {card.slug}` makes one.")
    return 0
