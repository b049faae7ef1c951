"""What does the stacked adaptive solver cost, against torchdiffeq?

A network field (64 -> 48 -> 64, batch of 36, as in the chapter on local regularisation) is solved on [0, 1] with
Dormand and Prince's pair at tolerance 1e-5, with and without gradients: ten networks stacked, each with its own
step sizes, against ten solves one after the other; and one network alone. Reported are CPU time and wall time per
solve (of all networks), the lowest of several interleaved repeats, and evaluations per network. These differ a little,
because torchdiffeq's embedded weights give a smaller error estimate and it does not stop at the last time; the last
column is the ratio of CPU times per evaluation.

torchdiffeq lives in the environment of tests/peers: run this with that environment's Python.
"""

import time

import torch
from common import report
from torch import nn
from torchdiffeq import odeint

from reprise.blocks import ode
from reprise.blocks.seeds import StackedMLP

RUNS, WIDTH, HIDDEN, BATCH, TOLERANCE, REPEATS, SOLVES = 10, 64, 48, 36, 1e-5, 7, 5
PLAIN = ode.Control(TOLERANCE, TOLERANCE, error_power=0.2, memory_power=0.0)  # a controller of their kind
TIMES = torch.tensor([0.0, 1.0])


class Field(nn.Module):
    """A network as a vector field, with a count of its evaluations."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, t, z):
        self.calls += 1
        return self.net(z).tanh()


def problem(runs: int):
    """Stacked network, the same networks as modules, initial states."""
    mlp = StackedMLP(list(range(runs)), [WIDTH, HIDDEN, WIDTH], activation="tanh", gain=3.0)
    modules = [mlp.module(i) for i in range(runs)]
    z0 = torch.rand(runs, BATCH, WIDTH, generator=torch.Generator().manual_seed(0))
    return mlp, [Field(module) for module in modules], z0


def measure(runs: int, gradient: bool) -> dict:
    """One row of the table."""
    mlp, fields, z0 = problem(runs)
    counts = {}

    def ours() -> None:
        with torch.set_grad_enabled(gradient):
            solution = ode.solve(lambda t, z: mlp(z).tanh(), z0, TIMES, PLAIN, ode.DOPRI5)
        counts["ours"] = float(solution.evaluations.float().mean())
        if gradient:
            mlp.params.zero_grad()
            solution.last.square().mean((1, 2)).sum().backward()

    def theirs() -> None:
        for field, start in zip(fields, z0):
            field.calls = 0
            with torch.set_grad_enabled(gradient):
                last = odeint(field, start, TIMES, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")[-1]
            if gradient:
                field.zero_grad()
                last.square().mean().backward()
        counts["theirs"] = sum(field.calls for field in fields) / runs

    best = {}
    for _ in range(REPEATS):  # interleaved, so that both see the same machine
        for name, once in (("ours", ours), ("theirs", theirs)):
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(SOLVES):
                once()
            taken = (time.process_time() - cpu) / SOLVES * 1e3, (time.perf_counter() - wall) / SOLVES * 1e3
            best[name] = tuple(map(min, zip(taken, best.get(name, taken))))
    ratio = best["theirs"][0] / best["ours"][0]
    return {
        "networks": runs,
        "gradient": "yes" if gradient else "no",
        "stacked, CPU (ms)": best["ours"][0],
        "torchdiffeq, CPU (ms)": best["theirs"][0],
        "stacked, wall (ms)": best["ours"][1],
        "torchdiffeq, wall (ms)": best["theirs"][1],
        "stacked, evaluations": counts["ours"],
        "torchdiffeq, evaluations": counts["theirs"],
        "CPU ratio": ratio,
        "CPU ratio per evaluation": ratio * counts["ours"] / counts["theirs"],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [measure(runs, gradient) for runs in (RUNS, 1) for gradient in (False, True)]
    report("ode_solver", rows, versions=("torch", "torchdiffeq"))
