"""TD3 and DDPG: learn a deterministic policy for continuous actions from replayed transitions.

Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods" (ICML 2018, arXiv 1802.09477);
Lillicrap et al., "Continuous control with deep reinforcement learning" (ICLR 2016, arXiv 1509.02971), which is the case
of one critic, no delay and no noise in targets (`ddpg`). An agent is a `TD3`, plain data. Actions lie in [-1, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprise.blocks.rl.buffer import Batch
from reprise.blocks.rl.networks import action_values, adam, copy_of, critics, follow, frozen, per_row, weighted
from reprise.blocks.seeds import FlatAdam, PerRun, RunRNG, StackedMLP, generators


@dataclass(frozen=True)
class Config:
    """Settings of TD3.

    Args:
        hidden: widths of actor and critics.
        activation: see `seeds.ACTIVATIONS`.
        actor_learning_rate, critic_learning_rate: of Adam, for all runs or per run.
        tau: share by which targets move after each update of the actor.
        critics: per run; targets use the smallest value.
        policy_delay: updates of the critics per update of actor and targets.
        target_noise: deviation of the noise on the target policy's actions, action units.
        noise_clip: its largest size.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    actor_learning_rate: PerRun = 1e-3
    critic_learning_rate: PerRun = 1e-3
    tau: float = 0.005
    critics: int = 2
    policy_delay: int = 2
    target_noise: float = 0.2
    noise_clip: float = 0.5


def ddpg(**settings) -> Config:
    """Settings of DDPG: one critic, no delay, no noise in targets; the others as given."""
    return Config(**{"critics": 1, "policy_delay": 1, "target_noise": 0.0} | settings)


@dataclass
class TD3:
    """A stack of agents: networks, targets, optimisers, noise, updates done per run (on the CPU)."""

    actor: StackedMLP
    critic: StackedMLP  # row run * critics + k
    actor_target: StackedMLP
    critic_target: StackedMLP
    actor_optimizer: FlatAdam
    critic_optimizer: FlatAdam
    rng: RunRNG
    target_rng: RunRNG
    updates: Int[Tensor, " runs"]
    config: Config


ExtraLoss = Callable[[TD3, Batch, dict], Float[Tensor, " runs"]]


def create(
    seeds: Sequence[int], obs_dim: int, act_dim: int, config: Config | None = None, device: str | torch.device = "cpu"
) -> TD3:
    """New agents, one per seed."""
    config = config or Config()
    sizes = (obs_dim, *config.hidden, act_dim)
    actor = StackedMLP(generators(seeds, "actor"), sizes, config.activation, output_activation="tanh", device=device)
    critic = critics(seeds, (obs_dim + act_dim, *config.hidden, 1), config.critics, config.activation, device)
    return TD3(
        actor,
        critic,
        copy_of(actor),
        copy_of(critic),
        adam(actor.params, config.actor_learning_rate),
        adam(critic.params, config.critic_learning_rate),
        RunRNG(seeds, "policy", device),
        RunRNG(seeds, "target", device),
        torch.zeros(actor.runs, dtype=torch.long),
        config,
    )


@torch.no_grad()
def act(agent: TD3, obs: Float[Tensor, "runs envs d"], noise: PerRun = 0.0) -> Float[Tensor, "runs envs a"]:
    """The policy's actions plus Gaussian noise of this deviation (for all or per run), clipped to [-1, 1]."""
    action = agent.actor(obs)
    if not isinstance(noise, Tensor) and noise == 0:
        return action
    spread = noise.view(-1, 1, 1) if isinstance(noise, Tensor) else noise
    return (action + spread * agent.rng.normal(*action.shape[1:])).clamp(-1, 1)


def update(
    agent: TD3,
    batch: Batch,
    mask: Bool[Tensor, " runs"] | None = None,
    extra_critic_loss: ExtraLoss | None = None,
    extra_actor_loss: ExtraLoss | None = None,
) -> dict[str, Tensor]:
    """One update of the critics on one batch per run and, every `policy_delay` of them, of actor and targets.

    Args:
        agent: changed in place.
        batch: obs, action, reward, discount, next_obs, and weight if losses are weighted.
        mask: runs to update; the others keep everything, targets and counters included.
        extra_critic_loss: (agent, batch, {"q": (runs, critics, batch), "target": (runs, batch)}) -> (runs,).
        extra_actor_loss: (agent, batch, {"q": (runs, batch), "action": (runs, batch, a)}) -> (runs,).
    Returns:
        critic_loss (summed over critics) and mean q, (runs,) each; actor_loss where the actor was due in some run.
    """
    target = td_target(agent, batch)
    q = action_values(agent.critic, batch["obs"], batch["action"])
    critic_loss = weighted((q - target[:, None]).square(), batch)
    total = critic_loss
    if extra_critic_loss is not None:
        total = critic_loss + extra_critic_loss(agent, batch, {"q": q, "target": target})
    agent.critic.params.zero_grad()
    total.sum().backward()
    agent.critic_optimizer.step(per_row(mask, agent.critic.params))
    metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean((1, 2))}

    moved = torch.ones_like(agent.updates, dtype=torch.bool) if mask is None else mask.cpu()
    agent.updates += moved
    due = moved & (agent.updates % agent.config.policy_delay == 0)
    if due.any():
        metrics["actor_loss"] = _update_actor(agent, batch, None if due.all() else due, extra_actor_loss)
    return metrics


@torch.no_grad()
def td_target(agent: TD3, batch: Batch) -> Float[Tensor, "runs batch"]:
    """reward + discount * the smallest target value of the target policy's (noisy) next action."""
    config, next_obs = agent.config, batch["next_obs"]
    action = agent.actor_target(next_obs)
    if config.target_noise:
        noise = config.target_noise * agent.target_rng.normal(*action.shape[1:])
        action = (action + noise.clamp(-config.noise_clip, config.noise_clip)).clamp(-1, 1)
    value = action_values(agent.critic_target, next_obs, action).amin(1)
    return batch["reward"] + batch["discount"] * value


def _update_actor(agent: TD3, batch: Batch, mask: Tensor | None, extra_loss: ExtraLoss | None) -> Tensor:
    """Up the first critic's slope, whose weights get no gradient; then move the targets."""
    action = agent.actor(batch["obs"])
    first = frozen(agent.critic, agent.config.critics)
    q = action_values(agent.critic, batch["obs"], action, first)[:, 0]
    loss = -q.mean(-1)
    total = loss
    if extra_loss is not None:
        total = loss + extra_loss(agent, batch, {"q": q, "action": action})
    agent.actor.params.zero_grad()
    total.sum().backward()
    agent.actor_optimizer.step(None if mask is None else mask.to(agent.actor.params.device))
    follow(agent.actor_target, agent.actor, agent.config.tau, mask)
    follow(agent.critic_target, agent.critic, agent.config.tau, mask)
    return loss.detach()
