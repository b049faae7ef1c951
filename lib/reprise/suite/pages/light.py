"""Pages that carry no more than they use: explorers and figures as files, scripts and styles where they are needed."""

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from reprise.suite import frames
from reprise.suite.pages.page import way_to_top

LOG = logging.getLogger(__name__)


def plain_explorers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Show explorers without the widgets' scripts."""
    views = [node for node in doctree.findall(nodes.raw) if frames.VIEW in node.astext()]
    if not views or app.builder.format != "html":
        return
    path = Path(app.env.doc2path(docname))
    explorers = frames.read_explorers(json.loads(path.read_text(encoding="utf-8")))
    for node in views:
        view = json.loads(re.sub(r"<[^>]*>", "", node.astext()))["model_id"]
        if view in explorers:
            name = f"{path.stem}-{list(explorers).index(view)}"
            figure = frames.figure(explorers[view], name, Path(app.outdir), way_to_top(docname))
            node.replace_self(nodes.raw("", figure, format="html"))
        else:
            LOG.warning("a widget that is no explorer needs a kernel, which no page has; use explore()", location=node)


_INLINE = re.compile(r'src="data:image/(png|webp);base64,([^"]+)"')


def figures_as_files(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Take figures out of the text, where they are a third larger; a page fetches each when a reader comes near it."""
    folder = Path(app.outdir) / "_images"
    count = itertools.count()

    def stored(found: re.Match) -> str:
        data = base64.b64decode(found[2])
        path = folder / f"figure-{hashlib.sha256(data).hexdigest()[:16]}.{found[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        lazy = 'loading="lazy" ' if next(count) else ""  # the first may be on the screen at once
        return f'{lazy}src="{way_to_top(docname)}_images/{path.name}"'

    for node in doctree.findall(nodes.raw):
        text = node.astext()
        if app.builder.format == "html" and _INLINE.search(text):
            node.clear()
            node += nodes.Text(_INLINE.sub(stored, text))


# what other extensions load on every page -> what the page's body holds where it is needed; None: never
_IDLE = {"sphinx-thebe": None, "sphinx-design": "sd-", "design-tabs": "sd-tab"}


def carry_what_is_needed(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Leave out what this page does not use, and let the rest of its scripts wait until the text is there."""
    if app.config.html_math_renderer == "katex" and app.env.get_domain("math").data["has_equations"].get(pagename):
        app.builder.add_css_file("vendor/katex/katex.min.css", priority=600)
        app.builder.add_js_file("vendor/katex/katex.min.js", priority=600)
    body = context.get("body", "")

    def is_needed(file) -> bool:
        name = str(getattr(file, "filename", None) or file)
        needs = next((sign for part, sign in _IDLE.items() if part in name), "")
        return needs is not None and needs in body

    context["css_files"] = [file for file in context["css_files"] if is_needed(file)]
    scripts = [file for file in context["script_files"] if is_needed(file)]
    # the widgets' state, which is most of an executed notebook: its frames are files of their own
    scripts = [file for file in scripts if getattr(file, "attributes", {}).get("type") != frames.STATE]
    if pagename != "search":  # whose own scripts wait for none of these
        scripts = [_deferred(file) for file in scripts]
    context["script_files"] = scripts


def _deferred(script):
    # text is painted before scripts have come; the pages' inline scripts need the options at once
    if not getattr(script, "filename", None) or "documentation_options" in str(script.filename):
        return script
    return type(script)(script.filename, priority=script.priority, **(script.attributes | {"defer": "defer"}))
