"""Masks for pruning stacked networks: which weights live, run by run.

Scores and masks are mappings name -> (runs, *shape). A cut keeps the best-scored *live* weights, so masks are
nested: a dead weight never comes back. Counts are exact: a cut to k weights keeps k, ties broken by position.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from reprise.blocks.seeds import ParameterStore

Scores = Mapping[str, Tensor]
Masks = dict[str, Tensor]


def full_masks(params: ParameterStore, names: Iterable[str]) -> Masks:
    """Everything alive, for the named parameters (usually the weight matrices, never the biases)."""
    return {name: torch.ones_like(params[name], dtype=torch.bool) for name in names}


def magnitudes(params: ParameterStore | Scores, names: Iterable[str]) -> dict[str, Tensor]:
    """|w| of the named parameters: the score of magnitude pruning."""
    return {name: params[name].detach().abs() for name in names}


def remaining(alive: int, fraction: float, rounds: int = 1) -> int:
    """Live weights after cutting `fraction` of them `rounds` times, rounding each cut to whole weights."""
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction to remove must be at least 0 and below 1; got {fraction}")
    for _ in range(rounds):
        alive -= round(fraction * alive)
    return alive


def prune_global(scores: Scores, masks: Masks, keep: int | Int[Tensor, " runs"]) -> Masks:
    """Keep the `keep` best live weights of each run, wherever they are.

    Args:
        scores: larger is better; shapes as `masks`.
        masks: what lives now.
        keep: number of weights that each run keeps.
    """
    live = torch.cat([masks[name].flatten(1) for name in masks], 1)
    values = torch.cat([scores[name].flatten(1) for name in masks], 1)
    cut = _keep_best(values, live, keep).split([masks[name][0].numel() for name in masks], dim=1)
    return {name: piece.reshape(masks[name].shape) for name, piece in zip(masks, cut)}


def prune_layerwise(scores: Scores, masks: Masks, keep: Mapping[str, int | Tensor]) -> Masks:
    """Keep the `keep[name]` best live weights of each run in every named layer."""
    return {
        name: _keep_best(scores[name].flatten(1), mask.flatten(1), keep[name]).view(mask.shape)
        for name, mask in masks.items()
    }


def shuffled(masks: Masks, generators: Sequence[Generator]) -> Masks:
    """Random masks with as many live weights in every layer of every run, from one generator per run."""
    result = {}
    for name, mask in masks.items():
        flat = mask.flatten(1)
        order = torch.stack([torch.randperm(flat.shape[1], generator=g, device=g.device) for g in generators])
        result[name] = flat.gather(1, order.to(flat.device)).view(mask.shape)
    return result


def alive_counts(masks: Masks) -> dict[str, Int[Tensor, " runs"]]:
    """Live weights per layer and run."""
    return {name: mask.flatten(1).sum(1) for name, mask in masks.items()}


def kept_share(masks: Masks) -> Tensor:
    """Share (0-1) of the maskable weights that lives, per run: the paper's P_m."""
    total = sum(mask[0].numel() for mask in masks.values())
    return sum(alive_counts(masks).values()) / total


def flat_mask(params: ParameterStore, masks: Masks) -> Bool[Tensor, "runs parameters"]:
    """The masks in the layout of `params.flat`; parameters without a mask (biases) count as alive."""
    flat = torch.ones_like(params.flat, dtype=torch.bool)
    views = params.views(flat)
    for name, mask in masks.items():
        views[name].copy_(mask)
    return flat


def _keep_best(values: Tensor, live: Bool[Tensor, "runs n"], keep: int | Tensor) -> Bool[Tensor, "runs n"]:
    """Per run: the `keep` live entries of highest value."""
    alive = live.sum(1)
    keep = torch.as_tensor(keep, device=live.device).expand(len(live))
    if (keep > alive).any() or (keep < 0).any():
        raise ValueError(
            f"cannot keep {keep.tolist()} weights where {alive.tolist()} live; dead weights never come back"
        )
    order = values.masked_fill(~live, -torch.inf).argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(live.shape[1], device=live.device) < keep.view(-1, 1)
    return torch.zeros_like(live).scatter_(1, order, chosen)
