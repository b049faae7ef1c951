"""A chapter that travels: its few files go to a worker that shares no folder with us, and what it made comes back.

The worker executes it in a folder of its own with the library that is installed there, and only if that is the same
version as ours: the digest, which covers every module that the chapter reaches, has to agree.
"""

import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reprise.suite.catalogue import find_card
from reprise.suite.execution import Outcome, execute, read_source, source_digest
from reprise.suite.house import House, write_atomically

OUT = "out"  # stands for the caller's folder


@dataclass(frozen=True)
class Parcel:
    """One chapter's files by their path in the repository, and the digest that its run will carry."""

    slug: str
    profile: str
    digest: str
    files: dict[str, bytes]


def pack(house: House, slug: str, profile: str) -> Parcel:
    """Card, source and recorded full run of one chapter. Raises RepriseError where the source cannot be read."""
    card = find_card(slug, house)
    digest = source_digest(card, read_source(house, card), profile)
    files = {}
    for path in (house.card(card.part, slug), house.source(card.part, slug), house.full_record(slug),
                 house.full_curves(slug)):  # fmt: skip
        if path.is_file() and path.is_relative_to(house.root):
            files[path.relative_to(house.root).as_posix()] = path.read_bytes()
    return Parcel(slug, profile, digest, files)


def execute_parcel(parcel: Parcel, *, has_folder: bool, **arguments) -> tuple[Outcome, dict[str, bytes]]:
    """Execute a parcel's chapter; returns how it went, and the files that it made or changed.

    Args:
        has_folder: the caller wants the notebook elsewhere than in its own place; such files are named `out/…`.
        arguments: as for `reprise.suite.execution.execute`.
    """
    with tempfile.TemporaryDirectory(prefix="reprise-parcel-") as scratch:
        house = House(Path(scratch))
        house_files = parcel.files | {"_toc.yml": b""}
        for name, content in house_files.items():
            write_atomically(house.root / name, content)
        (house.root / "data" / "evidence").mkdir(parents=True, exist_ok=True)
        card = find_card(parcel.slug, house)
        if source_digest(card, read_source(house, card), parcel.profile) != parcel.digest:
            return Outcome(
                parcel.slug,
                error=f"the worker on {socket.gethostname()} has another version of the library than this repository: "
                "install the same commit where the workers run.",
            ), {}
        folder = str(house.root / OUT) if has_folder else None
        outcome = execute(parcel.slug, root=scratch, profile=parcel.profile, folder=folder, **arguments)
        found = {path.relative_to(house.root).as_posix(): path for path in house.root.rglob("*") if path.is_file()}
        contents = {name: path.read_bytes() for name, path in found.items() if not name.startswith("_build/locks/")}
    return outcome, {name: content for name, content in contents.items() if house_files.get(name) != content}


def unpack(made: dict[str, bytes], house: House, folder: str | None) -> None:
    """Put what a worker made in its place here. Raises RepriseError where the disk refuses."""
    for name, content in made.items():
        inside = name.removeprefix(f"{OUT}/")
        write_atomically(house.root / name if inside == name else Path(folder) / inside, content)
