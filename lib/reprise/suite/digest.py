"""Fresh or stale: a digest over all that a chapter's numbers depend on, and over nothing else.

It covers the code cells, the card's claims, and every module of this library that the code reaches, read statically
as syntax trees without comments and docstrings: a better sentence re-runs nothing.
"""

import ast
import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from reprise.suite.catalogue import Card
from reprise.suite.errors import RepriseError
from reprise.suite.house import PACKAGE


def digest(card: Card, code_cells: list[str], package: Path = PACKAGE, profile: str = "quick") -> str:
    """Digest of one chapter, 64 hexadecimal characters.

    Args:
        code_cells: sources of the code cells, in order.
        package: folder of the `reprise` package whose modules are reached.
        profile: "full" leaves `reprise.suite` out. A full run keeps numbers and no page, and half an hour is too much
            for a better slider; that its verdicts follow from its effects is tested on every record.
    Raises:
        RepriseError: A cell or module is not valid Python.
    """
    state = hashlib.sha256()
    state.update(json.dumps([asdict(claim) for claim in card.claims], sort_keys=True).encode())
    reached: set[Path] = set()
    for number, cell in enumerate(code_cells, 1):
        tree = _parse(cell, f"code cell {number} of {card.slug}")
        state.update(f"\n#cell {canonical(tree)}".encode())
        _reach(tree, package, package, reached)
    for path in sorted(reached):
        if profile == "full" and path.relative_to(package).parts[0] == "suite":
            continue
        text = _module(path, path.stat().st_mtime_ns)[1]
        state.update(f"\n#{path.relative_to(package).as_posix()} {text}".encode())
    return state.hexdigest()


def reached_modules(code: str, package: Path = PACKAGE) -> set[Path]:
    """Files of the package that a piece of code imports, directly or through other modules of the package."""
    reached: set[Path] = set()
    _reach(_parse(code, "the code"), package, package, reached)
    return reached


def canonical(node) -> str:
    """A syntax tree as text, without docstrings and positions; the same on every Python version that parses it."""
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "kind", "type_comment", "type_ignores") or value is None or value == []:
                continue
            if name == "body" and isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                value = _without_docstring(value)
            fields.append(f"{name}={canonical(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return repr(node)


def _without_docstring(body: list) -> list:
    first = body[0] if body else None
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_docstring else body


def _parse(code: str, what: str) -> ast.Module:
    # IPython's line magics are no Python; as calls they still count when they change.
    lines = [f"magic({line!r})" if line.startswith(("%", "!")) else line for line in code.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError as error:
        raise RepriseError(f"{what}, line {error.lineno}: {error.msg}; mend the Python first.") from error


@lru_cache(maxsize=4096)
def _module(path: Path, mtime_ns: int) -> tuple[ast.Module, str]:
    tree = _parse(path.read_text(encoding="utf-8"), str(path))
    return tree, canonical(tree)


def _reach(tree: ast.Module, folder: Path, package: Path, reached: set[Path]) -> None:
    """Add the files that `tree`, a module of `folder`, imports from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = folder.relative_to(package).parts
                parents = parents[: len(parents) - (node.level - 1)]
                base = ".".join(["reprise", *parents, *([base] if base else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "reprise":
                continue
            # importing a.b.c runs a, a.b and a.b.c
            for depth in range(1, len(parts) + 1):
                _add(package.joinpath(*parts[1:depth]), package, reached)


def _add(stem: Path, package: Path, reached: set[Path]) -> None:
    for path in (stem / "__init__.py", stem.with_suffix(".py")):
        if path.is_file() and path not in reached:
            reached.add(path)
            _reach(_module(path, path.stat().st_mtime_ns)[0], path.parent, package, reached)
