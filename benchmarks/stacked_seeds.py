"""How much is gained by training all seeds as one program?

Ten classifiers (ReLU, Adam, cross-entropy) are trained twice from equal initial values on equal batches: stacked,
with `reprise.blocks`, and one after the other with torch.nn and torch.optim. Reported is CPU time per round (one
update of each of the ten networks), the lowest of several interleaved repeats, since other work on a machine only
ever adds to it.
"""

import time

import torch
from common import report
from torch import nn

from reprise.blocks.seeds import FlatAdam, RunRNG, StackedMLP
from reprise.blocks.training import cross_entropy

SIZES = ((32, 32), (64, 64), (256, 256))  # hidden width, batch
RUNS, INPUTS, CLASSES, REPEATS = 10, 20, 10, 5


def stacked(mlp: StackedMLP, optimizer: FlatAdam, x: torch.Tensor, y: torch.Tensor) -> None:
    """One round, all runs at once."""
    mlp.params.zero_grad()
    cross_entropy(mlp(x), y).sum().backward()
    optimizer.step()


def one_by_one(modules: list[nn.Module], optimizers: list, x: torch.Tensor, y: torch.Tensor) -> None:
    """One round, run after run."""
    for module, optimizer, x_own, y_own in zip(modules, optimizers, x, y):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x_own), y_own).backward()
        optimizer.step()


def measure(width: int, batch: int) -> dict[str, float]:
    """Milliseconds of CPU time per round of both ways."""
    seeds, rounds = list(range(RUNS)), 200 if width < 128 else 30
    mlp = StackedMLP(seeds, [INPUTS, width, width, CLASSES])
    modules = [mlp.module(i) for i in range(RUNS)]
    optimizer = FlatAdam(mlp.params, 1e-3)
    optimizers = [torch.optim.Adam(module.parameters(), 1e-3) for module in modules]
    rng = RunRNG(seeds, "data")
    x, y = rng.normal(batch, INPUTS), rng.randint(CLASSES, batch)
    times = {"stacked (ms)": [], "one by one (ms)": []}
    for _ in range(REPEATS):  # interleaved, so that both see the same machine
        for name, advance in (
            ("stacked (ms)", lambda: stacked(mlp, optimizer, x, y)),
            ("one by one (ms)", lambda: one_by_one(modules, optimizers, x, y)),
        ):
            start = time.process_time()
            for _ in range(rounds):
                advance()
            times[name].append((time.process_time() - start) / rounds * 1e3)
    return {name: min(values) for name, values in times.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = []
    for width, batch in SIZES:
        found = measure(width, batch)
        rows.append({"runs": RUNS, "width": width, "batch": batch} | found)
        rows[-1]["ratio"] = found["one by one (ms)"] / found["stacked (ms)"]
    report("stacked_seeds", rows)
