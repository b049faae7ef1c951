"""Loops and evaluation: counts, schedules, hooks, and episodes played to their own ends."""

import re
import textwrap

import pytest
import torch

from reprise.blocks import rl
from reprise.blocks.rl import evaluate, loop
from reprise.blocks.rl.buffer import Replay
from reprise.blocks.rl.envs import CartPole, Pendulum, Tabular

SEEDS = [1, 2]


def test_the_off_policy_loop_keeps_its_schedule():
    env, acted, updated, prepared = Pendulum(SEEDS, envs=3), [], [], []
    replay = Replay.of(env, 1000)

    def act(obs, step):
        acted.append(step)
        return torch.zeros(2, 3, 1)

    def prepare(batch):
        prepared.append(len(replay))
        return batch | {"reward": torch.ones(2, 5)}

    curve = loop.off_policy(
        env,
        replay,
        act,
        lambda batch: updated.append(batch["reward"].mean().item()),
        20,
        batch=5,
        random_steps=4,
        learn_after=8,
        every=3,
        updates=2,
        prepare=prepare,
        evaluate=lambda step: torch.full((2, 3), float(step)),
        evaluate_every=10,
    )
    assert acted == list(range(4, 20))
    assert prepared == [3 * step for step in (9, 12, 15, 18) for _ in range(2)]
    assert updated == [1.0] * 8
    assert len(replay) == 60
    assert curve.steps == [10, 20]
    assert curve.values.shape == (2, 2, 3)
    assert curve.values[0, :, 0].tolist() == [10.0, 20.0]
    actions = replay.rows[..., 3].view(2, -1, 3)
    assert (actions[:, :4] != 0).all()
    assert (actions[:, 4:20] == 0).all()


def test_the_on_policy_loop_hands_over_whole_roll_outs():
    env, seen = CartPole(SEEDS, envs=3), []
    act = lambda obs: {"action": torch.ones(2, 3, dtype=torch.long)}  # noqa: E731

    def update(rollout, iteration):
        seen.append((iteration, tuple(rollout["obs"].shape), rollout["obs"][:, 0].abs().max().item()))

    curve = loop.on_policy(env, act, update, 4, 5, restart=True, evaluate=lambda i: torch.zeros(2), evaluate_every=2)
    assert [s[:2] for s in seen] == [(i, (2, 5, 3, 4)) for i in range(4)]
    assert max(s[2] for s in seen) < 0.05
    assert curve.steps == [2, 4]
    loop.on_policy(env, act, update, 1, 5)
    assert seen[-1][2] > 0.05  # without restart it went on


def test_linear_schedules_reach_their_end_and_stay():
    assert [loop.linear(step, 1.0, 0.0, 4) for step in (0, 1, 4, 9)] == [1.0, 0.75, 0.0, 0.0]


def _corridor(max_steps):
    """From 0 to 4 by single steps, reward 1 each; per run, another cell ends the episode."""
    successors = torch.arange(1, 6).clamp(max=4)[:, None]
    terminal = torch.zeros(2, 5, dtype=torch.bool)
    terminal[0, 3] = terminal[1, 2] = True
    starts = torch.tensor([True, False, False, False, False])
    return Tabular(SEEDS, successors, torch.ones(5, 1), terminal, starts=starts, envs=2, max_steps=max_steps)


def test_episodes_are_played_once_and_to_their_end():
    still = lambda obs: torch.zeros(obs.shape[:2], dtype=torch.long)  # noqa: E731
    found = evaluate.episodes(_corridor(None), still, gamma=0.5, max_steps=50)
    assert found.lengths.tolist() == [[3, 3], [2, 2]]
    assert found.returns.tolist() == [[1.75, 1.75], [1.5, 1.5]]
    assert found.terminated.all()
    cut = evaluate.episodes(_corridor(2), still)
    assert cut.lengths.tolist() == [[2, 2], [2, 2]]
    assert cut.terminated.tolist() == [[False, False], [True, True]]
    assert evaluate.episodes(_corridor(None), still, max_steps=1).returns.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="max_steps"):
        evaluate.episodes(_corridor(None), still)


def test_new_worlds_of_the_same_seeds_give_the_same_episodes():
    push = lambda obs: torch.sign(obs[..., 2:])  # noqa: E731
    first, again, other = (
        evaluate.episodes(Pendulum(SEEDS, envs=4, stream=s), push).returns for s in ("test", "test", "train")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("unchecked")
def test_the_example_that_the_package_shows_runs():
    shown = re.search(r"\n\n(    from .*?)\n\nModules", rl.__doc__, re.DOTALL).group(1)
    shorter = {
        "steps=5000": "steps=40",
        "random_steps=250": "random_steps=20",
        "evaluate_every=1000": "evaluate_every=8",
    }
    for long, short in shorter.items():
        assert long in shown
        shown = shown.replace(long, short)
    made = {}
    exec(textwrap.dedent(shown), made)
    assert made["curve"].steps == [8, 16, 24, 32, 40]
    assert made["curve"].values.shape == (10, 5)
    assert not torch.equal(made["curve"].values[:, 1], made["curve"].values[:, 4])
