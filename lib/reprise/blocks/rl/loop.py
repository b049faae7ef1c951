"""Training loops: act, store, update, and evaluate now and then; all runs in lock-step.

The loops know worlds, replays and functions, not algorithms. Schedules are functions of the number of steps, and stand
in the caller's `act`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from reprise.blocks.rl.buffer import Batch, Replay, collect
from reprise.blocks.rl.envs import VecEnv, random_action
from reprise.blocks.seeds import RunRNG


@dataclass
class Curve:
    """What `evaluate` returned along the way: `steps` done, and `values` (runs, evaluations, ...)."""

    steps: list[int] = field(default_factory=list)
    _values: list[Tensor] = field(default_factory=list)

    @property
    def values(self) -> Float[Tensor, "runs evaluations ..."]:
        return torch.stack(self._values, 1)

    def note(self, step: int, value: Tensor) -> None:
        """Append one evaluation."""
        self.steps.append(step)
        self._values.append(value)


def linear(step: int, first: float, last: float, over: int) -> float:
    """A schedule: from `first` at step 0 to `last` at step `over`, and `last` from there on."""
    return first + (last - first) * min(step / over, 1.0)


def off_policy(
    env: VecEnv,
    replay: Replay,
    act: Callable[[Tensor, int], Tensor],
    update: Callable[[Batch], object],
    steps: int,
    *,
    batch: int = 64,
    random_steps: int = 0,
    learn_after: int | None = None,
    every: int = 1,
    updates: int = 1,
    prepare: Callable[[Batch], Batch] | None = None,
    evaluate: Callable[[int], Tensor] | None = None,
    evaluate_every: int = 0,
) -> Curve:
    """Learn from replayed transitions.

    Args:
        env: the worlds; they go on from where they are.
        replay: where transitions go and batches come from.
        act: (observation, steps done) -> action.
        update: one update from one batch.
        steps: steps of each world.
        batch: transitions per update and run.
        random_steps: steps with uniformly random actions at the beginning.
        learn_after: steps before the first update; `random_steps` if not given, and at least one.
        every: steps per round of updates.
        updates: updates per round.
        prepare: batch -> batch before each update: relabel rewards, roll out a model, train a discriminator.
        evaluate: steps done -> (runs, ...), called every `evaluate_every` steps.
        evaluate_every: 0 never evaluates.
    """
    curve, rng = Curve(), RunRNG(env.seeds, "random-action", env.device)
    learn_after = random_steps if learn_after is None else learn_after
    for step in range(steps):
        obs = env.obs
        action = random_action(env, rng) if step < random_steps else act(obs, step)
        replay.add(obs, action, env.step(action))
        done = step + 1
        if done > learn_after and done % every == 0:
            for _ in range(updates):
                drawn = replay.sample(batch)
                update(drawn if prepare is None else prepare(drawn))
        if evaluate is not None and evaluate_every and done % evaluate_every == 0:
            curve.note(done, evaluate(done))
    return curve


def on_policy(
    env: VecEnv,
    act: Callable[[Tensor], Mapping[str, Tensor]],
    update: Callable[[Batch, int], object],
    iterations: int,
    horizon: int,
    *,
    restart: bool = False,
    evaluate: Callable[[int], Tensor] | None = None,
    evaluate_every: int = 0,
) -> Curve:
    """Learn from roll-outs of the present policy.

    Args:
        env: the worlds; they go on from where they are.
        act: observation -> "action" and what else the update needs, as in `buffer.collect`.
        update: (roll-out, iterations done before) -> anything.
        iterations: roll-outs.
        horizon: steps of each world per roll-out.
        restart: begin every roll-out with new episodes.
        evaluate: iterations done -> (runs, ...), called every `evaluate_every` iterations.
        evaluate_every: 0 never evaluates.
    """
    curve = Curve()
    for iteration in range(iterations):
        if restart:
            env.reset()
        update(collect(env, act, horizon), iteration)
        done = iteration + 1
        if evaluate is not None and evaluate_every and done % evaluate_every == 0:
            curve.note(done, evaluate(done))
    return curve
