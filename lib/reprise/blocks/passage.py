"""When something happens in training: log-spaced steps, first passages, values at a time of each run's own."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprise.blocks.training import time_to_target


def log_spaced(num_steps: int, ratio: float = 1.05) -> Int[Tensor, " logged"]:
    """Steps 0, 1, 2, ... whose distance grows by `ratio`, up to and including `num_steps`."""
    steps, at = [0], 1.0
    while round(at) < num_steps:
        if round(at) > steps[-1]:
            steps.append(round(at))
        at *= ratio
    return torch.tensor([*steps, num_steps])


def first_below(
    steps: Int[Tensor, " logged"],
    losses: Float[Tensor, "runs conditions logged"],
    target: Float[Tensor, "runs conditions"],
) -> tuple[Int[Tensor, "runs conditions"], Bool[Tensor, "runs conditions"]]:
    """First logged step at which each loss is at or below its target (the last step if never), and whether it was."""
    first, reached = time_to_target(steps, losses.flatten(0, 1), target.flatten(), int(steps[-1]))
    return first.view(target.shape), reached.view(target.shape)


def value_at(
    steps: Int[Tensor, " logged"],
    values: Float[Tensor, "runs conditions logged"],
    at: Int[Tensor, "runs conditions"],
) -> Float[Tensor, "runs conditions"]:
    """What was measured at these logged steps, one step per run and condition."""
    place = torch.searchsorted(steps.to(at.device), at)
    return values.gather(-1, place.unsqueeze(-1)).squeeze(-1)


def slope(x: Float[Tensor, " points"], y: Float[Tensor, "runs points"]) -> Float[Tensor, " runs"]:
    """Least-squares slope of y on x, run by run."""
    x = x - x.mean()
    return (y * x).sum(-1) / x.square().sum()
