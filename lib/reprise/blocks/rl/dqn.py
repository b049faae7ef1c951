"""Deep Q-learning: Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015.

With the double estimator of van Hasselt et al. (AAAI 2016, arXiv 1509.06461) as an option. An agent is a `DQN`, plain
data; `create`, `act`, `act_softmax` and `update` are functions of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.rl.buffer import Batch
from reprise.blocks.rl.networks import adam, copy_of, follow, weighted
from reprise.blocks.seeds import FlatAdam, PerRun, RunRNG, StackedMLP, generators


@dataclass(frozen=True)
class Config:
    """Settings of a DQN.

    Args:
        hidden: widths; () makes a linear learner.
        activation: see `seeds.ACTIVATIONS`.
        learning_rate: of Adam, for all runs or per run.
        weight_decay: decoupled (AdamW).
        target_every: updates between copies of the network to its target.
        double: let the network choose the next action and the target judge it.
        loss: "huber" (threshold 1) or "mse".
        max_norm: gradient norm per run, not clipped if None.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    learning_rate: PerRun = 1e-3
    weight_decay: float = 0.0
    target_every: int = 100
    double: bool = False
    loss: str = "huber"
    max_norm: float | None = None

    def __post_init__(self):
        if self.loss not in ("huber", "mse"):
            raise ValueError(f"unknown loss {self.loss!r}; choose huber or mse")


@dataclass
class DQN:
    """A stack of agents: network, target, optimiser, exploration stream, updates done per run (on the CPU)."""

    net: StackedMLP
    target: StackedMLP
    optimizer: FlatAdam
    rng: RunRNG
    updates: Int[Tensor, " runs"]
    config: Config


ExtraLoss = Callable[[DQN, Batch, dict], Float[Tensor, " runs"]]


def create(
    seeds: Sequence[int], obs_dim: int, n_actions: int, config: Config | None = None, device: str | torch.device = "cpu"
) -> DQN:
    """New agents, one per seed."""
    config = config or Config()
    sizes = (obs_dim, *config.hidden, n_actions)
    net = StackedMLP(generators(seeds, "q"), sizes, config.activation, device=device)
    return around(net, seeds, config)


def around(net: StackedMLP, seeds: Sequence[int], config: Config) -> DQN:
    """Agents around a network of your own: (runs, batch, obs) -> (runs, batch, actions)."""
    optimizer = adam(net.params, config.learning_rate, config.weight_decay)
    rng = RunRNG(seeds, "policy", net.params.device)
    return DQN(net, copy_of(net), optimizer, rng, torch.zeros(net.runs, dtype=torch.long), config)


@torch.no_grad()
def act(agent: DQN, obs: Float[Tensor, "runs envs d"], epsilon: PerRun = 0.0) -> Int[Tensor, "runs envs"]:
    """The best action, or with probability `epsilon` (for all or per run) any; 0 draws nothing."""
    q = agent.net(obs)
    best = q.argmax(-1)
    if not isinstance(epsilon, Tensor) and epsilon == 0:
        return best
    u = agent.rng.uniform(obs.shape[1], 2)
    threshold = epsilon.view(-1, 1) if isinstance(epsilon, Tensor) else epsilon
    anything = (u[..., 1] * q.shape[-1]).long().clamp(max=q.shape[-1] - 1)
    return torch.where(u[..., 0] < threshold, anything, best)


@torch.no_grad()
def act_softmax(agent: DQN, obs: Float[Tensor, "runs envs d"], temperature: PerRun) -> Int[Tensor, "runs envs"]:
    """Actions with odds exp(Q / temperature), temperature for all or per run."""
    heat = temperature.view(-1, 1, 1) if isinstance(temperature, Tensor) else temperature
    chances = (agent.net(obs) / heat).softmax(-1).cumsum(-1)
    return (agent.rng.uniform(obs.shape[1], 1) > chances[..., :-1]).sum(-1)


def update(
    agent: DQN, batch: Batch, mask: Bool[Tensor, " runs"] | None = None, extra_loss: ExtraLoss | None = None
) -> dict[str, Tensor]:
    """One step of Q-learning on one batch per run.

    Args:
        agent: changed in place.
        batch: obs, action (whole numbers), reward, discount, next_obs, and weight if losses are weighted.
        mask: runs to update; the others keep everything, targets and counters included.
        extra_loss: (agent, batch, {"q": (runs, batch, actions), "features": hidden layers, "target": (runs, batch)})
            -> (runs,), added to the loss.
    Returns:
        loss and mean q of the actions taken, (runs,) each.
    """
    config = agent.config
    with torch.no_grad():
        ahead = agent.target(batch["next_obs"])
        if config.double:
            best = agent.net(batch["next_obs"]).argmax(-1, keepdim=True)
            value = ahead.gather(-1, best)[..., 0]
        else:
            value = ahead.amax(-1)
        target = batch["reward"] + batch["discount"] * value
    q, features = agent.net(batch["obs"], features=True)
    chosen = q.gather(-1, batch["action"][..., None])[..., 0]
    error = F.smooth_l1_loss if config.loss == "huber" else F.mse_loss
    loss = weighted(error(chosen, target, reduction="none"), batch)
    total = loss
    if extra_loss is not None:
        total = loss + extra_loss(agent, batch, {"q": q, "features": features, "target": target})
    agent.net.params.zero_grad()
    total.sum().backward()
    agent.optimizer.step(mask, config.max_norm)
    moved = torch.ones_like(agent.updates, dtype=torch.bool) if mask is None else mask.cpu()
    agent.updates += moved
    due = moved & (agent.updates % config.target_every == 0)
    if due.any():
        follow(agent.target, agent.net, 1.0, None if due.all() else due)
    return {"loss": loss.detach(), "q": chosen.detach().mean(-1)}
