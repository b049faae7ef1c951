"""The catalogue: the 15 parts, and each paper's card read from YAML and checked field by field."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from reprise.suite.errors import RepriseError
from reprise.suite.house import House, module_name

PARTS = {
    "dynamics": "How networks learn",
    "mechanisms": "What networks learn inside",
    "sparsity": "Sparse networks",
    "memory": "Memory and structure",
    "search": "Searching for networks",
    "adaptation": "Adapting and transferring",
    "science": "Equations and networks",
    "generation": "Generating under control",
    "gflownets": "Generative flow networks",
    "language": "Language and reward",
    "reinforcement": "Reinforcement learning",
    "imitation": "Imitation and offline learning",
    "control": "Control of systems",
    "robots": "Robots and bodies",
    "brain": "Brains and machines",
}
PROFILES = ("quick", "full")


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper that can fail, with the rule by which it is weighed.

    `effect`, `unit`, `margin` and `profile` are None exactly where `out_of_reach` gives a reason. `registered` keeps
    the wording or margin that an ill-defined claim had before `changed` says why it was replaced (DESIGN §5).
    """

    id: str
    says: str
    paper: str
    where: str
    effect: str | None = None
    unit: str | None = None
    margin: float | None = None
    profile: str | None = None
    out_of_reach: str | None = None
    registered: str | None = None
    changed: str | None = None

    def is_decidable_at(self, profile: str) -> bool:
        """True where a run of this profile has to weigh the claim; a full run weighs the quick claims too."""
        return self.profile is not None and (self.profile == profile or profile == "full")


@dataclass(frozen=True)
class Card:
    """A paper's record; `arxiv` and `code` are empty where the paper has none (`null` or "" in the file)."""

    slug: str
    part: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str
    code: str
    needs: tuple[str, ...]
    claims: tuple[Claim, ...]

    def claim(self, claim_id: str) -> Claim:
        """The claim of that id. Raises RepriseError that names the ids there are."""
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        raise RepriseError(
            f"The card {self.slug} has no claim {claim_id!r}; it has {', '.join(c.id for c in self.claims)}."
        )


def load_cards(house: House | None = None) -> dict[str, Card]:
    """Every card of the catalogue by slug, in the book's order of parts.

    Raises:
        RepriseError: A card is malformed (file, line and field are named), or `needs` names an unknown paper.
    """
    house = house or House.here()
    cards = {}
    for part in PARTS:
        for path in sorted((house.cards / part).glob("*.yml")):
            card = read_card(path)
            cards[card.slug] = card
    for card in cards.values():
        for needed in card.needs:
            if needed not in cards:
                raise RepriseError(
                    f"The card {card.slug} needs {needed!r}, which is no paper; {_nearest(needed, cards)}"
                )
    return cards


def find_card(slug: str, house: House | None = None) -> Card:
    """The card of one paper. Raises RepriseError that suggests the nearest slug."""
    house = house or House.here()
    for part in PARTS:
        path = house.card(part, slug)
        if path.is_file() and (card := read_card(path)).slug == slug:
            return card
    known = {p.stem.replace("_", "-"): p for part in PARTS for p in (house.cards / part).glob("*.yml")}
    raise RepriseError(f"There is no paper {slug!r}; {_nearest(slug, known)}")


def _nearest(slug: str, known) -> str:
    close = difflib.get_close_matches(slug, list(known), n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else "`reprise list` prints them all."


# --- reading one card -------------------------------------------------------------------------------------------------

_CARD_FIELDS = {
    "slug": str, "part": str, "title": str, "authors": list, "year": int,
    "venue": str, "arxiv": str, "code": str, "needs": list, "claims": list,
}  # fmt: skip
_CLAIM_FIELDS = {"id": str, "says": str, "paper": str, "where": str}
_DECIDABLE_FIELDS = {"effect": str, "unit": str, "margin": (int, float), "profile": str}
_OPTIONAL_FIELDS = {"registered": str, "changed": str}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times faster
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Reader:
    """One YAML file whose every complaint names file, line and field."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}" if mark else ""
            raise RepriseError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)}).") from error
        if not isinstance(self.node, yaml.MappingNode):
            raise RepriseError(f"{path}:1: a card is a mapping that begins with `slug:`.")

    def fail(self, node: yaml.Node, field: str, why: str):
        raise RepriseError(f"{self.path}:{node.start_mark.line + 1}: field {field!r} {why}.")

    def value(self, node: yaml.Node):
        return yaml.SafeLoader("").construct_object(node, deep=True)

    def mapping(self, node: yaml.MappingNode, required: dict, optional: dict, what: str) -> dict:
        """The fields of a mapping, each present, known and of its type."""
        found = {}
        for key_node, value_node in node.value:
            field = key_node.value
            if field in found:
                self.fail(key_node, field, f"stands twice in the {what}; keep one")
            if field not in required and field not in optional:
                known = ", ".join([*required, *optional])
                self.fail(key_node, field, f"is not a field of a {what}; the fields are {known}")
            kind = required.get(field) or optional[field]
            value = self.value(value_node)
            if value is None and field in ("arxiv", "code"):
                value = ""
            if not isinstance(value, kind) or isinstance(value, bool):
                names = "/".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
                self.fail(value_node, field, f"should be of type {names}, not {type(value).__name__}")
            if value == "" and field not in ("arxiv", "code"):
                self.fail(value_node, field, "is empty; write it, or the words 'not known'")
            found[field] = (value, value_node)
        for field in required:
            if field not in found:
                self.fail(node, field, f"is missing from the {what}")
        return found


def read_card(path: Path) -> Card:
    """Read and check one card. Raises RepriseError naming file, line, field and what to write instead."""
    reader = _Reader(path)
    fields = reader.mapping(reader.node, _CARD_FIELDS, {}, "card")
    values = {name: value for name, (value, _) in fields.items()}
    slug, slug_node = fields["slug"]
    if not _SLUG.fullmatch(slug):
        reader.fail(slug_node, "slug", "should be lower-case words joined by hyphens")
    if module_name(slug) != path.stem:
        reader.fail(slug_node, "slug", f"says {slug!r} but the file is called {path.name}; they must agree")
    if values["part"] != path.parent.name or values["part"] not in PARTS:
        reader.fail(fields["part"][1], "part", f"should be the name of the card's folder, one of {', '.join(PARTS)}")
    for field in ("authors", "needs"):
        value, node = fields[field]
        if not all(isinstance(item, str) and item for item in value):
            reader.fail(node, field, "should be a list of texts")
    if not values["authors"]:
        reader.fail(fields["authors"][1], "authors", "is empty; name at least one author")
    claims, seen = [], set()
    claims_node = fields["claims"][1]
    if not claims_node.value:
        reader.fail(claims_node, "claims", "is empty; a card without a claim cannot be judged")
    for node in claims_node.value:
        claim = _read_claim(reader, node)
        if claim.id in seen:
            reader.fail(node, "id", f"{claim.id!r} stands twice; ids are unique within a card")
        seen.add(claim.id)
        claims.append(claim)
    values |= {"authors": tuple(values["authors"]), "needs": tuple(values["needs"]), "claims": tuple(claims)}
    return Card(**values)


def _read_claim(reader: _Reader, node: yaml.Node) -> Claim:
    if not isinstance(node, yaml.MappingNode):
        reader.fail(node, "claims", "should be a list of claims, each beginning with `- id:`")
    is_out = any(key.value == "out_of_reach" for key, _ in node.value)
    required = _CLAIM_FIELDS | ({"out_of_reach": str} if is_out else _DECIDABLE_FIELDS)
    fields = reader.mapping(node, required, _OPTIONAL_FIELDS, "claim out of reach" if is_out else "claim")
    values = {name: value for name, (value, _) in fields.items()}
    if not _SLUG.fullmatch(values["id"]):
        reader.fail(fields["id"][1], "id", "should be lower-case words joined by hyphens")
    if ("registered" in values) != ("changed" in values):
        reader.fail(node, "changed", "and 'registered' go together: the old wording, and why it was changed")
    if not is_out:
        if values["profile"] not in PROFILES:
            reader.fail(fields["profile"][1], "profile", f"should be one of {', '.join(PROFILES)}")
        values["margin"] = float(values["margin"])
        if not 0 <= values["margin"] < float("inf"):
            reader.fail(fields["margin"][1], "margin", "should be a number, zero or more")
    return Claim(**values)
