"""Reading paths: curricula kept as data in `book/paths/<name>.yml`, checked against the cards and the chapters.

A path is a row of sessions. Each names the chapters to read, in order, the exercises to assign by their labels, a
question for the class and, while one of its chapters is not written, what to do instead.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from reprise.suite.catalogue import Card
from reprise.suite.errors import RepriseError
from reprise.suite.execution import read_source
from reprise.suite.exercises import exercises
from reprise.suite.house import House

WORDS_PER_MINUTE = 180  # as in a chapter's own header
PLANNED_MINUTES = 30  # reading time of a chapter that is not written yet: the most that one may take
EXERCISE_MINUTES = 45
PLANNED_EXERCISES = 2  # assigned from a chapter whose exercises are not written yet


@dataclass(frozen=True)
class Session:
    """One meeting; `instead` is (slug of a written chapter, what to do with it), for while a chapter is missing."""

    title: str
    read: tuple[str, ...]
    assign: tuple[str, ...]
    discuss: str
    instead: tuple[str, str] | None
    is_optional: bool


@dataclass(frozen=True)
class ReadingPath:
    """One curriculum; `whom`, `goal` and `prerequisites` are sentences for the teacher who chooses it."""

    name: str
    whom: str
    goal: str
    prerequisites: str
    sessions: tuple[Session, ...]

    @property
    def slugs(self) -> list[str]:
        """The chapters in order."""
        return [slug for session in self.sessions for slug in session.read]


def path_names(house: House) -> list[str]:
    """Names of the paths there are."""
    return sorted(file.stem for file in _folder(house).glob("*.yml"))


def _folder(house: House) -> Path:
    return house.root / "book" / "paths"


def read_path(house: House, name: str, cards: dict[str, Card]) -> ReadingPath:
    """Read one path and check it.

    Raises:
        RepriseError: Names the file, the session and the remedy: an unknown or missing field, a paper or exercise that
            does not exist, a chapter before what it needs, nothing to do instead of a chapter that is not written.
    """
    file = _folder(house) / f"{name}.yml"
    if not file.is_file():
        raise RepriseError(f"There is no reading path {name!r}; there are {', '.join(path_names(house))}.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RepriseError(f"{file}: not valid YAML ({error}).") from error
    fields = _fields(content, {"whom": str, "goal": str, "prerequisites": str, "sessions": list}, {}, f"{file}")
    sessions = tuple(_session(item, f"{file}, session {n}") for n, item in enumerate(fields.pop("sessions"), 1))
    path = ReadingPath(name, sessions=sessions, **fields)
    if complaints := [f"{file}: {complaint}" for complaint in _complaints(path, house, cards)]:
        raise RepriseError("\n".join(complaints))
    return path


def _session(item, where: str) -> Session:
    required = {"title": str, "read": list, "discuss": str}
    fields = _fields(item, required, {"assign": list, "instead": dict, "optional": bool}, where)
    instead = fields.get("instead")
    if instead is not None:
        instead = _fields(instead, {"use": str, "to": str}, {}, f"{where}, instead")
        instead = (instead["use"], instead["to"])
    return Session(
        fields["title"],
        tuple(fields["read"]),
        tuple(fields.get("assign", ())),
        fields["discuss"],
        instead,
        fields.get("optional", False),
    )


def _fields(content, required: dict, optional: dict, where: str) -> dict:
    if not isinstance(content, dict):
        raise RepriseError(f"{where}: write the fields {', '.join(required)}.")
    for name, value in content.items():
        kind = required.get(name) or optional.get(name)
        if kind is None:
            raise RepriseError(f"{where}: {name!r} is no field; the fields are {', '.join([*required, *optional])}.")
        if not isinstance(value, kind) or not value and kind is not bool:
            raise RepriseError(f"{where}: {name!r} should be a {kind.__name__} that is not empty.")
    if missing := [name for name in required if name not in content]:
        raise RepriseError(f"{where}: {', '.join(missing)} is missing.")
    return dict(content)


def _complaints(path: ReadingPath, house: House, cards: dict[str, Card]) -> Iterable[str]:
    unknown = [slug for slug in path.slugs if slug not in cards]
    if unknown:
        yield f"there is no paper {', '.join(unknown)}; `reprise list` prints them all."
        return
    if len(set(path.slugs)) < len(path.slugs):
        yield "a chapter is visited twice."
    if not path.sessions or path.sessions[0].is_optional:
        yield "the first session cannot be optional."
    yield from _out_of_order(path.sessions, cards, "")
    yield from _out_of_order([s for s in path.sessions if not s.is_optional], cards, " when optional ones are left out")
    is_written = {slug: house.source(card.part, slug).is_file() for slug, card in cards.items()}
    for session in path.sessions:
        labels = [label for slug in session.read if is_written[slug] for label in labels_of(house, cards[slug])]
        for label in session.assign:
            if label not in labels:
                yield f"session {session.title!r} assigns {label!r}, which is no exercise of its written chapters."
        if not all(is_written[slug] for slug in session.read):
            if session.instead is None:
                yield f"session {session.title!r} visits an unwritten chapter: say what to do `instead`."
            elif not is_written.get(session.instead[0]):
                yield f"session {session.title!r} falls back on {session.instead[0]!r}, which is not written."


def _out_of_order(sessions: Iterable[Session], cards: dict[str, Card], when: str) -> Iterable[str]:
    seen = set()
    for session in sessions:
        for slug in session.read:
            for needed in cards[slug].needs:
                if needed not in seen:
                    yield f"{slug} comes before {needed}, which it needs{when}: put {needed} first."
            seen.add(slug)


def labels_of(house: House, card: Card) -> list[str]:
    """Labels of a written chapter's exercises, in order."""
    return [exercise.label for exercise in exercises(read_source(house, card))]


def reading_minutes(house: House, card: Card) -> int:
    """Minutes that a chapter takes to read, rounded up to five; PLANNED_MINUTES while it is not written."""
    source = house.source(card.part, card.slug)
    if not source.is_file():
        return PLANNED_MINUTES
    words = len(re.findall(r"\w+", source.read_text(encoding="utf-8")))
    return 5 * math.ceil(words / WORDS_PER_MINUTE / 5)
