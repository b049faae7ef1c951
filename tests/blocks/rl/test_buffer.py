"""Replay and roll-outs against brute force, with terminations and truncations in the middle."""

import pytest
import torch

from reprise.blocks.rl.buffer import Replay, advantages, collect
from reprise.blocks.rl.envs import CartPole, Step

RUNS, ENVS, GAMMA = 3, 2, 0.9


def _history(steps, seed=0):
    """Random transitions whose observations tell which (time, world) they are."""
    draw = torch.Generator().manual_seed(seed)
    flags = torch.rand(steps, RUNS, ENVS, generator=draw)
    return {
        "obs": torch.arange(steps).float().view(-1, 1, 1, 1) + 0.1 * torch.arange(ENVS).view(1, 1, -1, 1)
        + torch.zeros(steps, RUNS, ENVS, 1),
        "action": torch.randn(steps, RUNS, ENVS, 2, generator=draw),
        "reward": torch.randn(steps, RUNS, ENVS, generator=draw),
        "terminated": flags < 0.15,
        "truncated": (flags > 0.85),
        "next_obs": torch.randn(steps, RUNS, ENVS, 1, generator=draw),
    }  # fmt: skip


def _filled(history, capacity, nstep):
    shapes = {"obs": (1,), "action": (2,), "next_obs": (1,)}
    replay = Replay(range(RUNS), shapes, capacity, ENVS, GAMMA, nstep)
    for t in range(len(history["obs"])):
        one = {name: value[t] for name, value in history.items()}
        step = Step(one["next_obs"], one["reward"], one["terminated"], one["truncated"], one["next_obs"])
        replay.add(one["obs"], one["action"], step)
    return replay


@pytest.mark.parametrize(("capacity", "nstep"), [(100, 1), (100, 4), (14, 4), (15, 5), (2, 3)])
def test_samples_are_the_stored_transitions_with_n_step_returns(capacity, nstep):
    steps = 23
    history = _history(steps)
    batch = _filled(history, capacity, nstep).sample(400)
    oldest = max(0, steps - capacity // ENVS)
    seen = set()
    for i in range(RUNS):
        for j in range(400):
            code = batch["obs"][i, j, 0].item()
            t, world = int(code + 0.05), round((code - int(code + 0.05)) * 10)
            seen.add((t, world))
            assert torch.equal(batch["action"][i, j], history["action"][t, i, world])
            total, power, k = 0.0, 1.0, t
            while True:
                total += power * history["reward"][k, i, world].item()
                power *= GAMMA
                ended = history["terminated"][k, i, world] or history["truncated"][k, i, world]
                if ended or k == steps - 1 or k - t + 1 == nstep:
                    break
                k += 1
            assert batch["reward"][i, j].item() == pytest.approx(total, abs=1e-5)
            assert batch["next_obs"][i, j].item() == history["next_obs"][k, i, world].item()
            expected = 0.0 if history["terminated"][k, i, world] else power
            assert batch["discount"][i, j].item() == pytest.approx(expected)
    assert seen == {(t, world) for t in range(oldest, steps) for world in range(ENVS)}


def test_a_run_draws_the_same_batches_in_any_stack():
    history = _history(10)
    together = _filled(history, 100, 2)
    alone = Replay([1], {"obs": (1,), "action": (2,), "next_obs": (1,)}, 100, ENVS, GAMMA, 2)
    for t in range(10):
        one = {name: value[t, 1:2] for name, value in history.items()}
        step = Step(one["next_obs"], one["reward"], one["terminated"], one["truncated"], one["next_obs"])
        alone.add(one["obs"], one["action"], step)
    for _ in range(3):
        many, one = together.sample(7), alone.sample(7)
        assert all(torch.equal(many[name][1:2], one[name]) for name in many)


def test_more_can_be_stored_and_discrete_actions_stay_whole():
    env = CartPole([0, 1], envs=2)
    replay = Replay.of(env, 50, weight=(), goal=(3,))
    action = torch.tensor([[0, 1], [1, 1]])
    replay.add(env.obs, action, env.step(action), weight=torch.full((2, 2), 0.5), goal=torch.ones(2, 2, 3))
    batch = replay.sample(9)
    assert batch["action"].dtype == torch.long
    assert batch["goal"].shape == (2, 9, 3)
    assert (batch["weight"] == 0.5).all()
    with pytest.raises(ValueError, match="goal"):
        replay.add(env.obs, action, env.step(action), weight=torch.zeros(2, 2))


def test_wrong_replays_are_refused():
    with pytest.raises(ValueError, match="next_obs missing"):
        Replay([0], {"obs": (1,), "action": ()}, 10)
    with pytest.raises(ValueError, match="room for one step of 8 worlds"):
        Replay([0], {"obs": (1,), "action": (), "next_obs": (1,)}, 7, envs=8)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_advantages_are_the_sums_of_their_definition(lam):
    history, steps = _history(12, seed=3), 12
    rollout = {name: value.transpose(0, 1) for name, value in history.items()}
    draw = torch.Generator().manual_seed(9)
    value, next_value = torch.randn(2, RUNS, steps, ENVS, generator=draw)
    found = advantages(rollout, value, next_value, GAMMA, lam)
    for i in range(RUNS):
        for e in range(ENVS):
            for t in range(steps):
                total, weight = 0.0, 1.0
                for k in range(t, steps):
                    bootstrap = 0.0 if rollout["terminated"][i, k, e] else GAMMA * next_value[i, k, e]
                    total += weight * (rollout["reward"][i, k, e] + bootstrap - value[i, k, e])
                    weight *= GAMMA * lam
                    if rollout["terminated"][i, k, e] or rollout["truncated"][i, k, e]:
                        break
                assert found[i, t, e].item() == pytest.approx(float(total), abs=1e-5)


def test_roll_outs_go_on_where_the_last_one_stopped_and_keep_what_was_seen_before_restarts():
    env = CartPole([0, 1], envs=3, max_steps=6)
    act = lambda obs: {"action": (obs[..., 2] > 0).long(), "marker": obs[..., 0]}  # noqa: E731
    first, second = collect(env, act, 5), collect(env, act, 5)
    assert first["obs"].shape == (2, 5, 3, 4)
    assert torch.equal(first["marker"], first["obs"][..., 0])
    goes_on = ~(first["terminated"] | first["truncated"])
    following = torch.cat([first["obs"][:, 1:], second["obs"][:, :1]], 1)
    assert torch.equal(first["next_obs"][goes_on], following[goes_on])
    cut = second["truncated"][:, 0]
    assert cut.all()
    assert not torch.equal(second["next_obs"][:, 0], second["obs"][:, 1])
