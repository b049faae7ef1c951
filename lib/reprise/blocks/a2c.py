"""Advantage actor-critics (A2C) on Acrobot, many agents at once, each with its own hyper-parameters.

Synchronous form of Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (ICML 2016, arXiv 1602.01783),
with generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). Rows are agents, copy after copy of
(seeds × members): copies of one agent (the arms of an experiment) start from the same weights and share all draws.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reprise.blocks import acrobot
from reprise.blocks.seeds import FlatAdam, ParameterStore, RunRNG, StackedMLP, generators

DISCOUNT = 0.99
EPISODES = 50  # whose returns are remembered


def discounted(
    surprise: Float[Tensor, "rows steps envs"], ended: Float[Tensor, "rows steps envs"], decay: Float[Tensor, " rows"]
) -> Float[Tensor, "rows steps envs"]:
    """Generalised advantages: Σ_k decay^k surprise[t + k], cut where an episode has ended; decay is γλ of each row."""
    running, advantage = torch.zeros_like(surprise[:, 0]), torch.empty_like(surprise)
    for t in reversed(range(surprise.shape[1])):
        running = surprise[:, t] + decay[:, None] * (1 - ended[:, t]) * running
        advantage[:, t] = running
    return advantage


class AcrobotAgents:
    """Actors and critics with one hidden layer, a few environments each, and the returns of their last episodes.

    Args:
        seeds: one per population.
        members: agents per seed, each with draws of its own.
        copies: how often the whole set is stacked.
        envs: environments per agent.
        rollout: steps of each environment between updates.
        hidden: width.
        device: where everything lives.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        members: int,
        copies: int = 1,
        envs: int = 8,
        rollout: int = 16,
        hidden: int = 64,
        device: str | torch.device = "cpu",
    ):
        self.per_seed, self.copies, self.envs, self.rollout_steps = members * envs, copies, envs, rollout
        own = [g for seed in seeds for i in range(members) for g in generators([seed], f"a2c/agent/{i}")]
        nets = {
            "actor": StackedMLP(own, (6, hidden, acrobot.ACTIONS), "tanh", "orthogonal", last_gain=0.01, device=device),
            "critic": StackedMLP(own, (6, hidden, 1), "tanh", "orthogonal", device=device),
        }
        shapes = {f"{name}.{key}": shape for name, net in nets.items() for key, shape in net.params.shapes.items()}
        rows = copies * len(own)
        self.params = ParameterStore(rows, shapes, device)
        self.params.flat.copy_(torch.cat([net.params.flat for net in nets.values()], 1).repeat(copies, 1))
        self._nets = {name: (net, {k: self.params[f"{name}.{k}"] for k in net.params}) for name, net in nets.items()}
        self.optimizer = FlatAdam(self.params, 0.0)
        # an agent that has not finished an episode counts as one that never arrives
        self.recent = torch.full((rows, EPISODES), -float(acrobot.MOST_STEPS), device=device)
        self._starts = RunRNG(seeds, "a2c/start", device, block=self.per_seed * 64)
        self._acts = RunRNG(seeds, "a2c/act", device, block=self.per_seed * 64)
        self._state = acrobot.start(self._uniforms(self._starts, 4))
        self._age = torch.zeros(rows, envs, device=device)

    def actor(self, seen: Float[Tensor, "rows *batch 6"]) -> Float[Tensor, "rows *batch 3"]:
        """Logits of the three actions."""
        net, params = self._nets["actor"]
        return net(seen, params=params)

    def critic(self, seen: Float[Tensor, "rows *batch 6"]) -> Float[Tensor, " rows *batch"]:
        """Values."""
        net, params = self._nets["critic"]
        return net(seen, params=params)[..., 0]

    @torch.no_grad()
    def rollout(self) -> list[Tensor]:
        """Observations, actions, rewards, next observations, terminal and ended flags, each (rows, rollout, envs, ...).

        Next observations are those before a reset, so that episodes cut off at the limit can be bootstrapped.
        """
        taken = []
        for _ in range(self.rollout_steps):
            seen = acrobot.observe(self._state)
            chances = self.actor(seen).softmax(-1).cumsum(-1)
            action = (self._uniforms(self._acts, 1) > chances[..., :-1]).sum(-1)
            new, arrived = acrobot.step(self._state, action)
            self._age += 1
            ended = arrived | (self._age >= acrobot.MOST_STEPS)
            taken.append((seen, action, arrived.float() - 1, acrobot.observe(new), arrived.float(), ended.float()))
            self._note(ended, arrived)
            fresh = acrobot.start(self._uniforms(self._starts, 4))
            self._state = torch.where(ended[..., None], fresh, new)
            self._age = torch.where(ended, 0.0, self._age)
        return [torch.stack(part, 1) for part in zip(*taken)]

    def update(
        self,
        learning_rate: Float[Tensor, " rows"],
        entropy_weight: Float[Tensor, " rows"],
        trace: Float[Tensor, " rows"],
    ) -> None:
        """One update from one rollout: policy gradient, squared value error, entropy; gradient norm at most 0.5.

        Args:
            learning_rate: of Adam.
            entropy_weight: of the bonus for undecided policies.
            trace: λ of the advantage estimates.
        """
        seen, action, reward, following, terminal, ended = self.rollout()
        value, logits = self.critic(seen), self.actor(seen)
        with torch.no_grad():
            surprise = reward + DISCOUNT * (1 - terminal) * self.critic(following) - value
            advantage = discounted(surprise, ended, DISCOUNT * trace)
            target = advantage + value
            deviation, mean = torch.std_mean(advantage, (1, 2), keepdim=True)
            weight = (advantage - mean) / (deviation + 1e-6)
        log_probs = logits.log_softmax(-1)
        gain = (log_probs.gather(-1, action[..., None])[..., 0] * weight).mean((1, 2))
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean((1, 2))
        error = (value - target).square().mean((1, 2))
        self.params.zero_grad()
        (0.5 * error - gain - entropy_weight * entropy).sum().backward()
        self.optimizer.learning_rate = learning_rate
        self.optimizer.step(max_norm=0.5)

    def _uniforms(self, rng: RunRNG, width: int) -> Tensor:
        return rng.uniform(self.per_seed * width).view(-1, self.envs, width).repeat(self.copies, 1, 1)

    def _note(self, ended: Tensor, arrived: Tensor) -> None:
        """Append returns of finished episodes: minus the number of steps, the arriving one costing nothing."""
        returns = arrived.float() - self._age
        for env in ended.any(0).nonzero()[:, 0]:
            rows = ended[:, env]
            self.recent[rows] = torch.cat([self.recent[rows, 1:], returns[rows, env, None]], 1)
