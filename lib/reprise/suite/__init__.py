"""What chapters import: `from reprise.suite import begin, explore, plots, say, show`.

The names are loaded when first used, so that the command line does not wait for torch and matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprise.suite import plots
    from reprise.suite.chapter import begin, say
    from reprise.suite.explorers import explore
    from reprise.suite.source import show

__all__ = ["begin", "explore", "plots", "say", "show"]

_HOME = {"begin": "chapter", "say": "chapter", "explore": "explorers", "show": "source"}


def __getattr__(name: str):
    if name == "plots":
        return import_module("reprise.suite.plots")
    if name in _HOME:
        return getattr(import_module(f"reprise.suite.{_HOME[name]}"), name)
    raise AttributeError(f"module 'reprise.suite' has no attribute {name!r}")
