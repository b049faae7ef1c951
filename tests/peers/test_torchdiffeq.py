"""Parity of the stacked solver with torchdiffeq: same pair, same tolerance, one run at a time on their side."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

from reprise.blocks import ode
from reprise.blocks.seeds import StackedMLP

PLAIN = {"error_power": 0.2, "memory_power": 0.0}  # their controller remembers no earlier error
# their embedded weights are Shampine's, whose estimate is two thirds of Dormand and Prince's own
THEIRS = (1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60)
SHAMPINE = replace(ode.DOPRI5, error=tuple(b - e for b, e in zip((*ode.DOPRI5.a[-1], 0.0), THEIRS)))
TIMES = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=torch.float64)


class Field(nn.Module):
    """One run of a stack as an ordinary module, with a count of its evaluations."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.calls = net.double(), 0

    def forward(self, t, z):
        self.calls += 1
        return self.net(z) - z


def problem():
    """Three runs: our stacked field and leaves, their modules, initial states (3, 5, 4)."""
    mlp = StackedMLP([0, 1, 2], [4, 16, 4], activation="tanh", gain=3.0)
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in mlp.params.items()}
    z0 = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return lambda t, z: mlp(z, params=leaves) - z, leaves, [Field(mlp.module(i)) for i in range(3)], z0


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_dopri5_gives_their_states_with_about_their_evaluations(tolerance):
    field, _, modules, z0 = problem()
    ours = ode.solve(field, z0, TIMES, ode.Control(tolerance, tolerance, **PLAIN), SHAMPINE, interpolate=True)
    for run, module in enumerate(modules):
        with torch.no_grad():
            theirs = odeint(module, z0[run], TIMES, rtol=tolerance, atol=tolerance, method="dopri5")
        torch.testing.assert_close(ours.states[run].detach(), theirs, rtol=0, atol=20 * tolerance)
        # they step beyond the last time and interpolate, we stop there: one step of difference at most
        assert abs(int(ours.evaluations[run]) - module.calls) <= 6


def test_tsit5_and_their_dopri8_agree_on_the_solution():
    field, _, modules, z0 = problem()
    ours = ode.solve(field, z0, TIMES, ode.Control(1e-10, 1e-10)).states.detach()
    for run, module in enumerate(modules):
        with torch.no_grad():
            theirs = odeint(module, z0[run], TIMES, rtol=1e-12, atol=1e-12, method="dopri8")
        torch.testing.assert_close(ours[run], theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("adjoint", [False, True])
def test_gradients_agree(adjoint):
    field, leaves, modules, z0 = problem()
    control = ode.Control(1e-9, 1e-9)
    if adjoint:
        states, _ = ode.solve_adjoint(field, z0, TIMES, list(leaves.values()), control)
    else:
        states = ode.solve(field, z0, TIMES, control).states
    states.square().sum().backward()
    for run, module in enumerate(modules):
        solve = odeint_adjoint if adjoint else odeint
        solve(module, z0[run], TIMES, rtol=1e-9, atol=1e-9, method="dopri5").square().sum().backward()
        theirs = dict(module.net.named_parameters())
        torch.testing.assert_close(leaves["0.weight"].grad[run].T, theirs["0.weight"].grad, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(leaves["1.bias"].grad[run, 0], theirs["2.bias"].grad, rtol=1e-5, atol=1e-6)
