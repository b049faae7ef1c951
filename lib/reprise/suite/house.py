"""Where things are: the folders of a repository, and how a slug becomes the five paths of a paper."""

import os
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from reprise.suite.errors import RepriseError

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class House:
    """A checked-out repository of the suite; `root` is its top folder.

    Without a checkout (the library installed by pip, a notebook opened alone) cards and recorded full runs come
    from the installed package, and whatever needs chapters says so.
    """

    root: Path

    @classmethod
    def here(cls) -> "House":
        """The repository named by REPRISE_ROOT, or the one this package lies in, or the bare package."""
        named = os.environ.get("REPRISE_ROOT")
        return cls(Path(named).resolve() if named else PACKAGE.parents[1])

    @cached_property
    def is_checkout(self) -> bool:
        return (self.root / "_toc.yml").is_file() and (self.root / "book").is_dir()

    def require_checkout(self) -> "House":
        """This house. Raises RepriseError where there are no chapter sources."""
        if not self.is_checkout:
            raise RepriseError(
                f"There is no Reprise repository at {self.root}: run this inside a clone, "
                "or name one with the environment variable REPRISE_ROOT."
            )
        return self

    @property
    def cards(self) -> Path:
        """Folder with one sub-folder per part, each holding cards and modules."""
        own = self.root / "lib" / "reprise"
        return own if own.is_dir() else PACKAGE

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def evidence(self) -> Path:
        """Recorded full runs."""
        kept = self.root / "data" / "evidence"
        return kept if kept.is_dir() else PACKAGE / "_evidence"

    def card(self, part: str, slug: str) -> Path:
        return self.cards / part / f"{module_name(slug)}.yml"

    def module(self, part: str, slug: str) -> Path:
        return self.cards / part / f"{module_name(slug)}.py"

    def test(self, part: str, slug: str) -> Path:
        return self.root / "tests" / part / f"test_{module_name(slug)}.py"

    def source(self, part: str, slug: str) -> Path:
        return self.root / "book" / part / f"{slug}.md"

    def notebook(self, part: str, slug: str) -> Path:
        return self.root / "notebooks" / part / f"{slug}.ipynb"

    def full_record(self, slug: str) -> Path:
        return self.evidence / f"{slug}.full.json"

    def full_curves(self, slug: str) -> Path:
        return self.evidence / f"{slug}.full.npz"


def repository_url(root: Path = PACKAGE.parents[1]) -> str:
    """The project's public address from the one place where it stands, `project.urls` in pyproject.toml.

    Without a checkout it is read from the installed package's metadata; "" where there is none.
    """
    if (root / "pyproject.toml").is_file():
        urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    else:
        try:
            entries = metadata.metadata("reprise").get_all("Project-URL") or []
        except metadata.PackageNotFoundError:
            entries = []
        urls = dict(entry.split(", ", 1) for entry in entries)
    return urls.get("Repository", "").rstrip("/")


def module_name(slug: str) -> str:
    """`lottery-ticket` -> `lottery_ticket`."""
    return slug.replace("-", "_")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old content or the new, never a half.

    Raises:
        RepriseError: The disk refused (full, read-only); the old file is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise RepriseError(
            f"Could not write {path} ({error.strerror}): free some space or choose another place, then run the "
            "same command again; what stood there before is intact."
        ) from error
    except BaseException:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise
