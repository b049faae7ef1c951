"""Worlds as tensors: every run has a few, all runs step at once, and each world restarts by itself.

Shapes: runs and worlds first, observations (runs, envs, obs_dim), continuous actions (runs, envs, act_dim) meant to lie
in [-1, 1], discrete actions (runs, envs). `Step.final_obs` is what was seen *before* a restart: whoever learns
bootstraps from it after a truncation, and not at all after a termination.

A world of your own is a `TensorEnv` with three functions: `begin`, `advance` and `observe`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from reprise.blocks.seeds import RunRNG, generators


class Step(NamedTuple):
    """What one step gives; `obs` is after restarts, `final_obs` the successor itself."""

    obs: Float[Tensor, "runs envs d"]
    reward: Float[Tensor, "runs envs"]
    terminated: Bool[Tensor, "runs envs"]
    truncated: Bool[Tensor, "runs envs"]
    final_obs: Float[Tensor, "runs envs d"]


@runtime_checkable
class VecEnv(Protocol):
    """What loops and evaluation ask of worlds. One of `act_dim` and `n_actions` is None."""

    seeds: list[int]
    runs: int
    envs: int
    obs_dim: int
    act_dim: int | None
    n_actions: int | None
    max_steps: int | None
    device: torch.device
    obs: Tensor  # what is seen now

    def reset(self) -> Tensor: ...

    def step(self, action: Tensor) -> Step: ...


def random_action(env: VecEnv, rng: RunRNG) -> Shaped[Tensor, "runs envs *dims"]:
    """Uniform over [-1, 1] or over the numbers of the actions."""
    if env.n_actions is not None:
        return rng.randint(env.n_actions, env.envs)
    return 2 * rng.uniform(env.envs, env.act_dim) - 1


class TensorEnv:
    """Common part of worlds written in torch: starts, time limit, restarts.

    A subclass sets `obs_dim`, `act_dim` or `n_actions`, `start_uniforms`, a default `max_steps`, and writes `begin`,
    `advance` and `observe`. A state is one tensor (runs, envs, ...). The n-th episode of a world starts from numbers
    that depend on its seed, its place and n alone, so that paired arms meet the same starts whatever they do.
    `self.rng` is for noise inside `advance` (ask for the same amount in every step), `self.age` counts the steps of
    the episode that were completed before.

    Args:
        seeds: one per run.
        envs: worlds per run.
        stream: name of the random stream; training and evaluation have different ones.
        max_steps: steps until truncation; the class's own limit if not given.
        device: where states live.
    """

    obs_dim: int
    act_dim: int | None = None
    n_actions: int | None = None
    start_uniforms: int
    max_steps: int | None = None

    def __init__(
        self,
        seeds: Sequence[int],
        envs: int = 1,
        stream: str = "env",
        max_steps: int | None = None,
        device: str | torch.device = "cpu",
    ):
        self.seeds, self.runs, self.envs, self.device = list(seeds), len(seeds), envs, torch.device(device)
        self.max_steps = self.max_steps if max_steps is None else max_steps
        self.rng = RunRNG(seeds, f"{stream}/noise", device)
        self._starts = RunRNG(seeds, f"{stream}/start", device, block=1)
        self._ahead = torch.empty(self.runs, envs, 0, self.start_uniforms, device=device)
        self._episode = torch.zeros(self.runs, envs, dtype=torch.long, device=device)
        self.reset()

    def begin(self, u: Float[Tensor, "runs envs k"]) -> Shaped[Tensor, "runs envs *state"]:
        """States of new episodes, from uniforms in [0, 1)."""
        raise NotImplementedError

    def advance(
        self, state: Shaped[Tensor, "runs envs *state"], action: Shaped[Tensor, "runs envs *action"]
    ) -> tuple[Shaped[Tensor, "runs envs *state"], Float[Tensor, "runs envs"], Bool[Tensor, "runs envs"]]:
        """Next states, rewards, and which episodes have terminated."""
        raise NotImplementedError

    def observe(self, state: Shaped[Tensor, "runs envs *state"]) -> Float[Tensor, "runs envs d"]:
        """What the agent sees of the states."""
        raise NotImplementedError

    def reset(self) -> Float[Tensor, "runs envs d"]:
        """New episodes everywhere; their first observations."""
        everywhere = torch.ones_like(self._episode, dtype=torch.bool)
        self.age = torch.zeros_like(self._episode)
        self.state = self.begin(self._uniforms(everywhere))
        self.obs = self.observe(self.state)
        return self.obs

    @torch.no_grad()
    def step(self, action: Shaped[Tensor, "runs envs *action"]) -> Step:
        """One step of every world; those whose episode has ended are in a new one afterwards."""
        new, reward, terminated = self.advance(self.state, action)
        self.age = self.age + 1
        limit = torch.inf if self.max_steps is None else self.max_steps
        truncated = (self.age >= limit) & ~terminated
        final_obs = self.obs = self.observe(new)
        ended = terminated | truncated
        if ended.any():
            fresh = self.begin(self._uniforms(ended))
            new = torch.where(ended.view(*ended.shape, *[1] * (new.ndim - 2)), fresh, new)
            self.age = torch.where(ended, 0, self.age)
            self.obs = self.observe(new)
        self.state = new
        return Step(self.obs, reward, terminated, truncated, final_obs)

    def _uniforms(self, which: Bool[Tensor, "runs envs"]) -> Float[Tensor, "runs envs k"]:
        """The numbers from which the next episode of each world starts; used up where `which` is true."""
        while self._episode.max() >= self._ahead.shape[2]:
            more = self._starts.uniform(16, self.envs, self.start_uniforms).transpose(1, 2)
            self._ahead = torch.cat([self._ahead, more], 2)
        place = self._episode[..., None, None].expand(-1, -1, 1, self.start_uniforms)
        self._episode = self._episode + which
        return self._ahead.gather(2, place)[:, :, 0]


class Pendulum(TensorEnv):
    """Swing a rod up and hold it, as gymnasium's Pendulum-v1: torque 2 N m times the action, 0.05 s per step.

    State: angle in rad, 0 upright, and speed in rad/s. The reward is -(angle² + 0.1 speed² + 0.001 torque²).
    """

    obs_dim, act_dim, start_uniforms, max_steps = 3, 1, 2, 200

    def begin(self, u):
        return (2 * u - 1) * torch.tensor([math.pi, 1.0], device=u.device)

    def advance(self, state, action):
        angle, speed = state.unbind(-1)
        torque = 2 * action[..., 0].clamp(-1, 1)
        off = (angle + math.pi).remainder(2 * math.pi) - math.pi
        reward = -(off.square() + 0.1 * speed.square() + 0.001 * torque.square())
        speed = (speed + 0.05 * (15 * angle.sin() + 3 * torque)).clamp(-8, 8)  # g = 10, length and mass 1
        return torch.stack([angle + 0.05 * speed, speed], -1), reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state):
        angle, speed = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)


class CartPole(TensorEnv):
    """Keep a pole upright on a cart pushed left (0) or right (1), as gymnasium's CartPole-v1: reward 1 per step.

    State and observation: position in m, speed in m/s, the pole's angle in rad, its speed in rad/s. The episode
    terminates beyond 2.4 m or 12 degrees.
    """

    obs_dim, n_actions, start_uniforms, max_steps = 4, 2, 4, 500

    def begin(self, u):
        return 0.1 * u - 0.05

    def advance(self, state, action):
        position, speed, angle, turning = state.unbind(-1)
        cart, pole, half = 1.0, 0.1, 0.5  # kg, kg, m
        force = 20.0 * action.to(state.dtype) - 10.0
        sin, cos = angle.sin(), angle.cos()
        push = (force + pole * half * turning.square() * sin) / (cart + pole)
        spin = (9.8 * sin - cos * push) / (half * (4 / 3 - pole * cos.square() / (cart + pole)))
        drive = push - pole * half * spin * cos / (cart + pole)
        rates = torch.stack([speed, drive, turning, spin], -1)
        new = state + 0.02 * rates
        terminated = (new[..., 0].abs() > 2.4) | (new[..., 2].abs() > 12 * math.pi / 180)
        return new, torch.ones_like(position), terminated

    def observe(self, state):
        return state


class Tabular(TensorEnv):
    """An explicit deterministic decision process, seen through one feature vector per state.

    Args:
        seeds, envs, stream, max_steps, device: as in `TensorEnv`.
        successors: next state of every state and action, for all runs or per run.
        reward: of every state and action.
        terminal: states whose entry ends the episode.
        features: what is seen in each state; one-hot vectors if not given.
        starts: states to start from with equal odds; all that are not terminal if not given.
    """

    start_uniforms = 1

    def __init__(
        self,
        seeds: Sequence[int],
        successors: Int[Tensor, "*#runs states actions"],
        reward: Float[Tensor, "*#runs states actions"],
        terminal: Bool[Tensor, "*#runs states"],
        features: Float[Tensor, "*#runs states d"] | None = None,
        starts: Bool[Tensor, "*#runs states"] | None = None,
        envs: int = 1,
        stream: str = "env",
        max_steps: int | None = None,
        device: str | torch.device = "cpu",
    ):
        states, self.n_actions = successors.shape[-2:]
        features = torch.eye(states) if features is None else features
        starts = ~terminal if starts is None else starts
        if not starts.any(-1).all():
            raise ValueError("every run needs at least one state to start from; mark one in `starts`")

        def own(x: Tensor, dims: int) -> Tensor:
            return x.expand(len(seeds), *x.shape[-dims:]).to(device)

        self.successors, self.reward = own(successors, 2).flatten(1), own(reward, 2).flatten(1)
        self.terminal, self.features = own(terminal, 1), own(features, 2)
        self.obs_dim = features.shape[-1]
        starts = own(starts, 1)
        self._start_count = starts.sum(-1, keepdim=True)
        self._start_order = starts.long().argsort(
            dim=-1, descending=True, stable=True
        )  # those to start from come first
        super().__init__(seeds, envs, stream, max_steps, device)

    def begin(self, u):
        return self._start_order.gather(1, (u[..., 0] * self._start_count).long().clamp(max=self._start_count - 1))

    def advance(self, state, action):
        pair = state * self.n_actions + action
        new = self.successors.gather(1, pair)
        return new, self.reward.gather(1, pair), self.terminal.gather(1, new)

    def observe(self, state):
        return self.features.gather(1, state[..., None].expand(-1, -1, self.obs_dim))


class GymVec:
    """Environments of gymnasium as worlds, stepped one after the other.

    Actions in [-1, 1] are stretched to the environment's bounds (and clipped to them), observations flattened.

    Args:
        make: an id, or a function that makes one environment.
        seeds: one per run.
        envs: worlds per run.
        stream: with the seed and the world's place it decides the environment's own seed.
        max_steps: steps until truncation, beside a limit of the environment's own.
        device: where observations go.
    """

    def __init__(
        self,
        make: str | Callable,
        seeds: Sequence[int],
        envs: int = 1,
        stream: str = "env",
        max_steps: int | None = None,
        device: str | torch.device = "cpu",
    ):
        import gymnasium  # here, so that worlds of our own do not pay for its import

        self.seeds, self.runs, self.envs, self.device = list(seeds), len(seeds), envs, torch.device(device)
        make_one = (lambda: gymnasium.make(make)) if isinstance(make, str) else make
        self.worlds = [make_one() for _ in range(self.runs * envs)]
        actions, seen = self.worlds[0].action_space, self.worlds[0].observation_space
        self.obs_dim = gymnasium.spaces.flatdim(seen)
        self.n_actions = self.act_dim = None
        if isinstance(actions, gymnasium.spaces.Discrete):
            self.n_actions = int(actions.n)
        elif isinstance(actions, gymnasium.spaces.Box):
            self.act_dim, self._low, self._high = math.prod(actions.shape), actions.low, actions.high
        else:
            raise ValueError(f"actions must be a Box or Discrete; wrap the environment, whose actions are {actions}")
        limit = getattr(self.worlds[0].spec, "max_episode_steps", None)
        self.max_steps = limit if max_steps is None else max_steps
        own = [g for place in range(envs) for g in generators(seeds, f"{stream}/{place}")]
        self._first_seeds = [g.initial_seed() % 2**31 for g in own]  # place after place
        self.reset()

    def reset(self) -> Float[Tensor, "runs envs d"]:
        """New episodes everywhere; their first observations. The first time, worlds are seeded."""
        seeds = self._first_seeds or [None] * len(self.worlds)
        by_run = np.array(seeds, dtype=object).reshape(self.envs, self.runs).T.flatten()
        self._first_seeds = None
        self._age = np.zeros(len(self.worlds), int)
        self.obs = self._tensor([world.reset(seed=seed)[0] for world, seed in zip(self.worlds, by_run)])
        return self.obs

    def step(self, action: Shaped[Tensor, "runs envs *action"]) -> Step:
        """One step of every world; those whose episode has ended are in a new one afterwards."""
        final, seen, rest = [], [], []
        self._age += 1
        for i, (world, own) in enumerate(zip(self.worlds, action.detach().cpu().flatten(0, 1).numpy())):
            obs, reward, terminated, truncated, _ = world.step(self._native(own))
            truncated = (truncated or self._age[i] >= (self.max_steps or math.inf)) and not terminated
            final.append(obs)
            if terminated or truncated:
                obs, _ = world.reset()
                self._age[i] = 0
            seen.append(obs)
            rest.append((float(reward), bool(terminated), bool(truncated)))
        reward, terminated, truncated = (
            torch.tensor(column, device=self.device).view(self.runs, self.envs) for column in zip(*rest)
        )
        self.obs = self._tensor(seen)
        return Step(self.obs, reward, terminated, truncated, self._tensor(final))

    def _native(self, action: np.ndarray | np.integer):
        if self.n_actions is not None:
            return int(action)
        share = (np.clip(action, -1, 1).reshape(self._low.shape) + 1) / 2
        return (self._low + share * (self._high - self._low)).astype(self._low.dtype)

    def _tensor(self, rows: list) -> Tensor:
        stacked = np.stack([np.asarray(row, np.float32).ravel() for row in rows])
        return torch.from_numpy(stacked).view(self.runs, self.envs, -1).to(self.device)
