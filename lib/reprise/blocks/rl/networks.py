"""Critics and target networks of stacked agents; what dqn, td3 and sac have in common."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprise.blocks.seeds import FlatAdam, ParameterStore, PerRun, StackedMLP, generators


def critics(
    seeds: Sequence[int], sizes: Sequence[int], count: int, activation: str, device: str | torch.device = "cpu"
) -> StackedMLP:
    """Networks of (observation, action), `count` per run, one after the other: row run * count + k."""
    own = [g for seed in seeds for k in range(count) for g in generators([seed], f"critic/{k}")]
    return StackedMLP(own, sizes, activation, device=device)


def action_values(
    critic: StackedMLP,
    obs: Float[Tensor, "runs batch d"],
    action: Float[Tensor, "runs batch a"],
    params: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, "runs critics batch"]:
    """What every critic of a run says; with `params` the number of critics is that of their rows."""
    x = torch.cat([obs, action], -1)
    rows = critic.runs if params is None else len(next(iter(params.values())))
    count = rows // len(x)
    if count > 1:
        x = x.repeat_interleave(count, 0)
    return critic(x, params=params)[..., 0].unflatten(0, (-1, count))


def frozen(net: StackedMLP, every: int = 1) -> dict[str, Tensor]:
    """The parameters as they are, without gradients for them; `every` = 2 takes the first of each run's two critics."""
    return net.params.views(net.params.flat[::every])


def copy_of(net: StackedMLP) -> StackedMLP:
    """The same network with parameters of its own: a target."""
    return net.with_params(net.params.select(slice(None)))


@torch.no_grad()
def follow(target: StackedMLP, source: StackedMLP, tau: float, mask: Bool[Tensor, " runs"] | None = None) -> None:
    """Move a target by the share `tau` towards its source, in the runs where `mask` is true."""
    if mask is None:
        target.params.flat.lerp_(source.params.flat, tau)
    else:
        target.params.flat.lerp_(source.params.flat, tau * per_row(mask, target.params).float()[:, None])


def per_row(value: PerRun | None, params: ParameterStore) -> PerRun | None:
    """What holds per run, repeated for stores with several rows per run; numbers and None stay what they are."""
    if not isinstance(value, Tensor) or len(value) == params.runs:
        return value
    return value.to(params.device).repeat_interleave(params.runs // len(value), 0)


def adam(params: ParameterStore, learning_rate: PerRun, weight_decay: float = 0.0) -> FlatAdam:
    """Adam, or AdamW if there is decay, with a learning rate for all or per run."""
    return FlatAdam(params, per_row(learning_rate, params), weight_decay=weight_decay, decoupled=True)


def weighted(loss: Float[Tensor, "runs *dims batch"], batch: Mapping[str, Tensor]) -> Float[Tensor, " runs"]:
    """Mean over the batch per run, after multiplication by the batch's "weight" (runs, batch) if it has one."""
    if "weight" in batch:
        loss = loss * (batch["weight"] if loss.ndim == 2 else batch["weight"][:, None])
    return loss.mean(-1) if loss.ndim == 2 else loss.mean(-1).sum(1)
