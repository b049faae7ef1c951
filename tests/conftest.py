"""Every test also checks every shape: the library is imported under jaxtyping's hook with beartype."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook  # noqa: E402

_hook = install_import_hook("reprise.blocks", "beartype.beartype")
for _part in os.listdir(os.path.join(os.path.dirname(__file__), "..", "lib", "reprise")):
    if _part not in ("suite", "blocks", "__pycache__", "__init__.py"):
        install_import_hook(f"reprise.{_part}", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
