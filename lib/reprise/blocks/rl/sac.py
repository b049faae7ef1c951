"""Soft actor-critic: learn a stochastic policy for continuous actions that keeps its entropy where it costs little.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018, arXiv 1812.05905): twin critics, a Gaussian
squashed by tanh, and a temperature α per run that holds the entropy at a target. An agent is a `SAC`, plain data.
Actions lie in [-1, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.rl.buffer import Batch
from reprise.blocks.rl.networks import action_values, adam, copy_of, critics, follow, frozen, per_row, weighted
from reprise.blocks.seeds import FlatAdam, ParameterStore, PerRun, RunRNG, StackedMLP, generators

_LOG_STD = (-20.0, 2.0)  # the policy's logarithmic deviation never leaves this range


@dataclass(frozen=True)
class Config:
    """Settings of SAC.

    Args:
        hidden: widths of actor and critics.
        activation: see `seeds.ACTIVATIONS`.
        actor_learning_rate, critic_learning_rate: of Adam, for all runs or per run.
        alpha_learning_rate: of the logarithmic temperature; 0 keeps it fixed.
        alpha: the temperature at the beginning.
        target_entropy: in nats; minus the number of action dimensions if None.
        tau: share by which the critics' targets move per update.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    actor_learning_rate: PerRun = 1e-3
    critic_learning_rate: PerRun = 1e-3
    alpha_learning_rate: PerRun = 1e-3
    alpha: float = 1.0
    target_entropy: float | None = None
    tau: float = 0.005


@dataclass
class SAC:
    """A stack of agents: networks, targets, temperatures, optimisers, noise."""

    actor: StackedMLP  # outputs mean and logarithmic deviation before squashing
    critic: StackedMLP  # row run * 2 + k
    critic_target: StackedMLP
    temperature: ParameterStore  # "log_alpha" (runs, 1)
    actor_optimizer: FlatAdam
    critic_optimizer: FlatAdam
    alpha_optimizer: FlatAdam
    rng: RunRNG  # exploration
    update_rng: RunRNG
    config: Config

    @property
    def alpha(self) -> Float[Tensor, " runs"]:
        return self.temperature["log_alpha"].detach()[:, 0].exp()


ExtraLoss = Callable[[SAC, Batch, dict], Float[Tensor, " runs"]]


def create(
    seeds: Sequence[int], obs_dim: int, act_dim: int, config: Config | None = None, device: str | torch.device = "cpu"
) -> SAC:
    """New agents, one per seed."""
    config = config or Config()
    if config.alpha <= 0:
        raise ValueError(f"a temperature is positive; got {config.alpha}")
    sizes = (obs_dim, *config.hidden, 2 * act_dim)
    actor = StackedMLP(generators(seeds, "actor"), sizes, config.activation, device=device)
    critic = critics(seeds, (obs_dim + act_dim, *config.hidden, 1), 2, config.activation, device)
    temperature = ParameterStore(len(seeds), {"log_alpha": (1,)}, device)
    temperature.flat.fill_(math.log(config.alpha))
    return SAC(
        actor,
        critic,
        copy_of(critic),
        temperature,
        adam(actor.params, config.actor_learning_rate),
        adam(critic.params, config.critic_learning_rate),
        adam(temperature, config.alpha_learning_rate),
        RunRNG(seeds, "policy", device),
        RunRNG(seeds, "update", device),
        config,
    )


def squashed(
    agent: SAC, obs: Float[Tensor, "runs batch d"], noise: Float[Tensor, "runs batch a"]
) -> tuple[Float[Tensor, "runs batch a"], Float[Tensor, "runs batch"]]:
    """Actions tanh(mean + deviation * noise) and their log-density, differentiable in the actor's parameters."""
    mean, log_std = agent.actor(obs).chunk(2, -1)
    log_std = log_std.clamp(*_LOG_STD)
    before = mean + log_std.exp() * noise
    log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - before - F.softplus(-2 * before))  # log(1 - tanh²), without cancellation
    return before.tanh(), (log_density - log_slope).sum(-1)


@torch.no_grad()
def act(agent: SAC, obs: Float[Tensor, "runs envs d"], explore: bool = False) -> Float[Tensor, "runs envs a"]:
    """The squashed mean, or a draw from the policy."""
    mean = agent.actor(obs).chunk(2, -1)[0]
    if not explore:
        return mean.tanh()
    return squashed(agent, obs, agent.rng.normal(*mean.shape[1:]))[0]


def update(
    agent: SAC,
    batch: Batch,
    mask: Bool[Tensor, " runs"] | None = None,
    extra_critic_loss: ExtraLoss | None = None,
    extra_actor_loss: ExtraLoss | None = None,
) -> dict[str, Tensor]:
    """One update of critics, actor, temperature and targets on one batch per run.

    Args:
        agent: changed in place.
        batch: obs, action, reward, discount, next_obs, and weight if the critics' losses are weighted.
        mask: runs to update; the others keep everything.
        extra_critic_loss: (agent, batch, {"q": (runs, 2, batch), "target": (runs, batch)}) -> (runs,).
        extra_actor_loss: (agent, batch, {"q": (runs, batch), "action": (runs, batch, a), "log_prob": (runs, batch)})
            -> (runs,).
    Returns:
        critic_loss (summed over both), actor_loss, mean q, entropy in nats, alpha, (runs,) each.
    """
    config, alpha, act_dim = agent.config, agent.alpha[:, None], batch["action"].shape[-1]
    noise = agent.update_rng.normal(2, batch["obs"].shape[1], act_dim)
    with torch.no_grad():
        ahead, log_ahead = squashed(agent, batch["next_obs"], noise[:, 0])
        value = action_values(agent.critic_target, batch["next_obs"], ahead).amin(1) - alpha * log_ahead
        target = batch["reward"] + batch["discount"] * value
    q = action_values(agent.critic, batch["obs"], batch["action"])
    critic_loss = weighted(0.5 * (q - target[:, None]).square(), batch)
    total = critic_loss
    if extra_critic_loss is not None:
        total = critic_loss + extra_critic_loss(agent, batch, {"q": q, "target": target})
    agent.critic.params.zero_grad()
    total.sum().backward()
    agent.critic_optimizer.step(per_row(mask, agent.critic.params))

    action, log_prob = squashed(agent, batch["obs"], noise[:, 1])
    worse = action_values(agent.critic, batch["obs"], action, frozen(agent.critic)).amin(1)
    actor_loss = (alpha * log_prob - worse).mean(-1)
    total = actor_loss
    if extra_actor_loss is not None:
        cache = {"q": worse, "action": action, "log_prob": log_prob}
        total = actor_loss + extra_actor_loss(agent, batch, cache)
    agent.actor.params.zero_grad()
    total.sum().backward()
    agent.actor_optimizer.step(mask)

    entropy = -log_prob.detach().mean(-1)
    goal = -float(act_dim) if config.target_entropy is None else config.target_entropy
    agent.temperature.grad.copy_((entropy - goal)[:, None])  # slope of log α (entropy - goal)
    agent.alpha_optimizer.step(mask)
    follow(agent.critic_target, agent.critic, config.tau, mask)
    metrics = {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q.mean((1, 2))}
    return {name: value.detach() for name, value in metrics.items()} | {"entropy": entropy, "alpha": agent.alpha}
