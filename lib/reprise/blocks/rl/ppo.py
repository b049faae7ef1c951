"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with generalised advantages.

Continuous actions come from a Gaussian whose deviation does not depend on the observation, discrete ones from softmax.
Nothing is clipped or squashed here: worlds do that. An agent is a `PPO`, plain data; actor, critic and deviation share
one parameter store, so that the gradient norm is that of the whole agent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from reprise.blocks.rl.buffer import Batch, advantages
from reprise.blocks.rl.networks import adam
from reprise.blocks.seeds import FlatAdam, ParameterStore, PerRun, RunRNG, StackedMLP, generators


@dataclass(frozen=True)
class Config:
    """Settings of PPO.

    Args:
        hidden: widths of actor and critic.
        activation: see `seeds.ACTIVATIONS`.
        learning_rate: of Adam, for all runs or per run; `agent.optimizer.learning_rate` may be changed later.
        gamma, lam: discount and λ of the advantages.
        clip: how far the ratio of probabilities may leave 1.
        epochs: passes over each roll-out.
        minibatches: parts of a pass; what does not fit into equal parts is left out.
        entropy_weight: of the bonus for undecided policies.
        value_weight: of the critic's squared error.
        value_cap: largest squared error that counts (larger ones give no gradient); no cap if None.
        normalize: advantages to mean 0 and deviation 1 in every minibatch of a run.
        max_norm: gradient norm per run, not clipped if None.
        first_log_std: logarithmic deviation of the policy at the beginning.
        last_gain: factor on the actor's last weights at the beginning.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    learning_rate: PerRun = 3e-4
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    epochs: int = 10
    minibatches: int = 4
    entropy_weight: float = 0.0
    value_weight: float = 0.5
    value_cap: float | None = None
    normalize: bool = True
    max_norm: float | None = 0.5
    first_log_std: float = 0.0
    last_gain: float = 0.01


@dataclass
class PPO:
    """A stack of agents: one store with "actor.…", "critic.…" and, for continuous actions, "log_std"."""

    params: ParameterStore
    actor: StackedMLP  # architecture only: its values are in `params`
    critic: StackedMLP
    optimizer: FlatAdam
    rng: RunRNG  # exploration
    order: RunRNG  # minibatches
    config: Config

    @property
    def is_discrete(self) -> bool:
        return "log_std" not in self.params

    @cached_property
    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The parameters of "actor" and "critic", by the networks' own names."""
        return {
            net: {key[len(net) + 1 :]: leaf for key, leaf in self.params.items() if key.startswith(f"{net}.")}
            for net in ("actor", "critic")
        }


ExtraLoss = Callable[[PPO, Batch, dict], Float[Tensor, " runs"]]


def create(
    seeds: Sequence[int],
    obs_dim: int,
    act_dim: int | None = None,
    n_actions: int | None = None,
    config: Config | None = None,
    device: str | torch.device = "cpu",
) -> PPO:
    """New agents, one per seed, for continuous actions (`act_dim`) or discrete ones (`n_actions`).

    Weights are orthogonal, with gain √2 in hidden layers, `last_gain` at the actor's end and 1 at the critic's.
    """
    config = config or Config()
    if (act_dim is None) == (n_actions is None):
        raise ValueError(f"say either act_dim or n_actions; got {act_dim} and {n_actions}")
    nets = {
        name: StackedMLP(
            generators(seeds, name),
            (obs_dim, *config.hidden, outputs),
            config.activation,
            "orthogonal",
            gain=math.sqrt(2),
            last_gain=gain,
            device=device,
        )
        for name, outputs, gain in (("actor", act_dim or n_actions, config.last_gain), ("critic", 1, 1.0))
    }
    shapes = {f"{name}.{key}": shape for name, net in nets.items() for key, shape in net.params.shapes.items()}
    buffers = [net.params.flat for net in nets.values()]
    if n_actions is None:
        shapes["log_std"] = (act_dim,)
        buffers.append(torch.full((len(seeds), act_dim), config.first_log_std, device=device))
    params = ParameterStore(len(seeds), shapes, device)
    params.flat.copy_(torch.cat(buffers, 1))
    rngs = [RunRNG(seeds, stream, device) for stream in ("policy", "order")]
    return PPO(params, nets["actor"], nets["critic"], adam(params, config.learning_rate), *rngs, config)


def value(agent: PPO, obs: Float[Tensor, "runs *batch d"]) -> Float[Tensor, " runs *batch"]:
    """What the critic expects."""
    return agent.critic(obs, params=agent.parts["critic"])[..., 0]


def log_prob_and_entropy(
    agent: PPO, obs: Float[Tensor, "runs *batch d"], action: Shaped[Tensor, " runs *actions"]
) -> tuple[Float[Tensor, " runs *batch"], Float[Tensor, " runs *batch"]]:
    """Log-probability (density, for continuous actions) and the policy's entropy in nats."""
    output = agent.actor(obs, params=agent.parts["actor"])
    if agent.is_discrete:
        log_probs = output.log_softmax(-1)
        return log_probs.gather(-1, action[..., None])[..., 0], -(log_probs.exp() * log_probs).sum(-1)
    log_std = agent.params["log_std"].view(-1, *[1] * (obs.ndim - 2), output.shape[-1])
    z = (action - output) / log_std.exp()
    log_prob = -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
    return log_prob, entropy.expand_as(log_prob)


@torch.no_grad()
def act(agent: PPO, obs: Float[Tensor, "runs envs d"]) -> Shaped[Tensor, "runs envs *a"]:
    """The mean of the policy, or its most probable action: for evaluation."""
    output = agent.actor(obs, params=agent.parts["actor"])
    return output.argmax(-1) if agent.is_discrete else output


@torch.no_grad()
def explore(agent: PPO, obs: Float[Tensor, "runs envs d"]) -> dict[str, Tensor]:
    """Drawn actions with their "log_prob", as `buffer.collect` and `loop.on_policy` take them."""
    output = agent.actor(obs, params=agent.parts["actor"])
    if agent.is_discrete:
        below = output.softmax(-1).cumsum(-1)[..., :-1]
        action = (agent.rng.uniform(obs.shape[1], 1) > below).sum(-1)
    else:
        action = output + agent.params["log_std"].exp()[:, None] * agent.rng.normal(*output.shape[1:])
    return {"action": action, "log_prob": log_prob_and_entropy(agent, obs, action)[0]}


def update(
    agent: PPO,
    rollout: Batch,
    mask: Bool[Tensor, " runs"] | None = None,
    extra_loss: ExtraLoss | None = None,
) -> dict[str, Tensor]:
    """Several passes over one roll-out.

    Args:
        agent: changed in place.
        rollout: from `buffer.collect` with `explore`: (runs, steps, envs, ...).
        mask: runs to update; the others keep everything.
        extra_loss: (agent, minibatch, {"ratio", "value"}: (runs, size)) -> (runs,). The minibatch holds obs, action,
            log_prob, advantage and goal (of the critic) as (runs, size, ...).
    Returns:
        Means over all minibatches, (runs,) each: policy_loss, value_loss, entropy, and of kl, the estimate
        E[ratio - 1 - log ratio] of the divergence from the roll-out's policy.
    """
    config = agent.config
    rows, split = _rows(agent, rollout)
    count = rows.shape[1]
    size = count // config.minibatches
    if size == 0:
        raise ValueError(f"a roll-out of {count} transitions has no {config.minibatches} minibatches; collect more")
    totals: dict[str, Tensor] = {}
    for _ in range(config.epochs):
        order = agent.order.permutation(count)[..., None].expand(-1, -1, rows.shape[-1])
        shuffled = rows.gather(1, order)
        for part in shuffled.split(size, 1)[: config.minibatches]:
            found = _step(agent, split(part), mask, extra_loss)
            totals = {name: totals.get(name, 0.0) + value for name, value in found.items()}
    return {name: total / (config.epochs * config.minibatches) for name, total in totals.items()}


@torch.no_grad()
def _rows(agent: PPO, rollout: Batch) -> tuple[Tensor, Callable[[Tensor], Batch]]:
    """What minibatches hold, side by side in one tensor (runs, steps * envs, width), and how to split it."""
    now = value(agent, rollout["obs"])
    gain = advantages(rollout, now, value(agent, rollout["next_obs"]), agent.config.gamma, agent.config.lam)
    whole = {"obs": rollout["obs"], "action": rollout["action"], "log_prob": rollout["log_prob"]}
    whole |= {"advantage": gain, "goal": gain + now}
    shapes = {name: tensor.shape[3:] for name, tensor in whole.items()}
    runs, count = len(now), now[0].numel()
    parts = [tensor.reshape(runs, count, -1).to(now.dtype) for tensor in whole.values()]

    def split(rows: Tensor) -> Batch:
        pieces = rows.split([part.shape[-1] for part in parts], -1)
        batch = {name: piece.reshape(*piece.shape[:2], *shape) for piece, (name, shape) in zip(pieces, shapes.items())}
        return batch | ({"action": batch["action"].long()} if agent.is_discrete else {})

    return torch.cat(parts, -1), split


def _step(agent: PPO, batch: Batch, mask: Tensor | None, extra_loss: ExtraLoss | None) -> dict[str, Tensor]:
    """One gradient step on one minibatch per run: eq. 9 of the paper."""
    config, gain = agent.config, batch["advantage"]
    if config.normalize:
        deviation, mean = torch.std_mean(gain, 1, keepdim=True)
        gain = (gain - mean) / (deviation + 1e-8)
    log_prob, entropy = log_prob_and_entropy(agent, batch["obs"], batch["action"])
    log_ratio = log_prob - batch["log_prob"]
    ratio = log_ratio.exp()
    policy_loss = -torch.minimum(ratio * gain, ratio.clamp(1 - config.clip, 1 + config.clip) * gain).mean(1)
    expected = value(agent, batch["obs"])
    error = (expected - batch["goal"]).square()
    value_loss = (error if config.value_cap is None else error.clamp(max=config.value_cap)).mean(1)
    entropy = entropy.mean(1)
    loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy
    if extra_loss is not None:
        loss = loss + extra_loss(agent, batch, {"ratio": ratio, "value": expected})
    agent.params.zero_grad()
    loss.sum().backward()
    agent.optimizer.step(mask, config.max_norm)
    kl = (ratio - 1 - log_ratio).mean(1)
    found = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, "kl": kl}
    return {name: tensor.detach() for name, tensor in found.items()}
