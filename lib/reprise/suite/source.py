"""`show(function)`: the library's own source in the page, so that the text and the tested code cannot differ."""

import html
import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from reprise.suite.house import repository_url

# The site's theme colors these classes itself, light and dark; `:where` weighs nothing, so that this only counts in
# Jupyter and Colab. Jupyter's own editor colors are taken where they exist.
STYLE = """<style>
:where(.reprise-source) :is(.k,.kn,.kc,.ow){color:var(--jp-mirror-editor-keyword-color,#8250df)}
:where(.reprise-source) :is(.sd,.c1,.s2,.s1,.si,.sa){color:var(--jp-mirror-editor-comment-color,#5f8a7a)}
:where(.reprise-source) :is(.nf,.nc,.nd){color:var(--jp-mirror-editor-def-color,#0f7bb5)}
:where(.reprise-source) pre{overflow-x:auto;line-height:1.45}
</style>"""


@dataclass(frozen=True)
class Excerpt:
    """Source of one or several objects of one file."""

    file: str  # as in the repository, such as lib/reprise/memory/modern_hopfield.py; "" outside the library
    code: str
    address: str  # of the file at the repository; "" where unknown

    def _html(self) -> str:
        code = highlight(self.code, PythonLexer(), HtmlFormatter(nowrap=True))
        name = html.escape(self.file)
        link = f'<a href="{html.escape(self.address)}">{name}</a>' if self.address else name
        head = f'<p class="reprise-source-file">{link}</p>' if name else ""
        return f'<div class="reprise-source">{head}<div class="highlight"><pre tabindex="0">{code}</pre></div></div>'


@dataclass(frozen=True)
class Source:
    """What `show` returns: displays itself as highlighted HTML or plain text."""

    excerpts: tuple[Excerpt, ...]

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": STYLE + "".join(excerpt._html() for excerpt in self.excerpts), "text/plain": str(self)}

    def __str__(self) -> str:
        parts = [f"# {e.file}\n{e.code}" if e.file else e.code for e in self.excerpts]
        return "\n\n".join(part.rstrip() for part in parts)


def show(*objects) -> Source:
    """The source of functions and classes, docstrings kept, with a link to their file in the repository.

    Raises:
        ValueError: nothing was given, or an object has no Python source (an instance, a number, a built-in function).
    """
    if not objects:
        raise ValueError("show() needs at least one function or class, such as show(hopfield.update)")
    excerpts: list[Excerpt] = []
    for thing in objects:
        excerpt = _excerpt(thing)
        if excerpts and excerpts[-1].file == excerpt.file:  # one heading for neighbors from the same file
            excerpts[-1] = Excerpt(excerpt.file, f"{excerpts[-1].code}\n\n{excerpt.code}", excerpt.address)
        else:
            excerpts.append(excerpt)
    return Source(tuple(excerpts))


def _excerpt(thing) -> Excerpt:
    bare = inspect.unwrap(thing) if callable(thing) else thing
    if inspect.ismethod(bare):
        bare = bare.__func__
    try:
        code = textwrap.dedent(inspect.getsource(bare)).rstrip() + "\n"
        path = Path(inspect.getsourcefile(bare) or "")
    except (TypeError, OSError):
        what = getattr(thing, "__name__", None) or f"a value of type {type(thing).__name__}"
        raise ValueError(f"show() prints the source of functions and classes, and {what} has none") from None
    module = getattr(bare, "__module__", None) or getattr(bare, "__name__", "")
    if module.split(".")[0] != "reprise":
        return Excerpt("", code, "")
    parts = module.split(".")
    inside = "/".join(parts[:-1] + [path.name]) if path.name != "__init__.py" else "/".join([*parts, "__init__.py"])
    file = f"lib/{inside}"
    return Excerpt(file, code, f"{address}/blob/main/{file}" if (address := repository_url()) else "")
