"""Worlds: mechanics as gymnasium has them, restarts, limits, and starts that depend on seed, place and number alone."""

import gymnasium
import numpy as np
import pytest
import torch

from reprise.blocks.rl.envs import CartPole, GymVec, Pendulum, Step, Tabular, TensorEnv, random_action
from reprise.blocks.seeds import RunRNG

SEEDS = [5, 3, 8]


def _state_of(env, name):
    return np.array(env.unwrapped.state, dtype=np.float64) if name == "CartPole-v1" else env.unwrapped.state


@pytest.mark.parametrize(("ours", "name"), [(Pendulum, "Pendulum-v1"), (CartPole, "CartPole-v1")])
def test_two_hundred_steps_agree_with_gymnasium(ours, name):
    env, theirs = ours([0], envs=1), gymnasium.make(name)
    rng = np.random.default_rng(0)
    theirs.reset(seed=0)
    env.state = torch.tensor(_state_of(theirs, name))[None, None]
    restarts = 0
    for _ in range(200):
        if name == "Pendulum-v1":
            share = rng.uniform(-1.5, 1.5)
            action, native = torch.tensor([[[share]]]), np.array([2 * share])
        else:
            native = int(rng.integers(2))
            action = torch.tensor([[native]])
        step = env.step(action)
        seen, reward, terminated, _, _ = theirs.step(native)
        np.testing.assert_allclose(step.final_obs[0, 0].numpy(), seen, atol=1e-4)
        assert step.reward.item() == pytest.approx(reward, abs=1e-4)
        assert step.terminated.item() == terminated
        if terminated:
            restarts += 1
            theirs.reset()
            env.state, env.age = torch.tensor(_state_of(theirs, name))[None, None], torch.zeros_like(env.age)
    assert restarts > 0 or name == "Pendulum-v1"


@pytest.mark.parametrize(("ours", "name"), [(Pendulum, "Pendulum-v1"), (CartPole, "CartPole-v1")])
def test_starts_limits_and_spaces_are_gymnasiums(ours, name):
    theirs = gymnasium.make(name)
    first = np.stack([theirs.reset(seed=i)[0] for i in range(500)])
    seen = ours([0], envs=4000).obs[0].numpy()
    np.testing.assert_allclose(seen.min(0), first.min(0), atol=0.05)
    np.testing.assert_allclose(seen.max(0), first.max(0), atol=0.05)
    assert ours.max_steps == theirs.spec.max_episode_steps
    assert ours.obs_dim == theirs.observation_space.shape[0]


class Counter(TensorEnv):
    """Counts up from a start in [0, 1); terminates at the run's own goal; the action is ignored."""

    obs_dim, n_actions, start_uniforms = 1, 2, 1

    def begin(self, u):
        return u[..., 0]

    def advance(self, state, action):
        return state + 1, self.age.float(), state + 1 >= 3

    def observe(self, state):
        return state[..., None]


def test_the_true_successor_is_kept_and_the_world_restarts():
    env = Counter(SEEDS, envs=2)
    first = env.obs
    for age in range(3):
        step = env.step(torch.zeros(3, 2, dtype=torch.long))
        assert torch.equal(step.final_obs, first + age + 1)
        assert (step.reward == age).all()
    assert step.terminated.all()
    assert not step.truncated.any()
    assert (step.obs < 1).all()
    assert not torch.equal(step.obs, first)
    assert (env.age == 0).all()


def test_a_limit_truncates_unless_the_episode_terminates_in_that_very_step():
    cut, both = Counter([0], max_steps=2), Counter([0], max_steps=3)
    steps = [cut.step(torch.zeros(1, 1, dtype=torch.long)) for _ in range(2)]
    assert [s.truncated.item() for s in steps] == [False, True]
    steps = [both.step(torch.zeros(1, 1, dtype=torch.long)) for _ in range(3)]
    assert (steps[2].terminated.item(), steps[2].truncated.item()) == (True, False)


def test_a_worlds_nth_start_does_not_depend_on_other_runs_or_on_what_happened():
    def starts(seeds, max_steps):
        env = CartPole(seeds, envs=2, max_steps=max_steps)
        found, rng = [env.obs[-1]], RunRNG(seeds, "a")
        for _ in range(500):
            step = env.step(random_action(env, rng))
            for world in (step.terminated | step.truncated)[-1].nonzero()[:, 0].tolist():
                found.append((world, step.obs[-1, world].tolist()))
        return found[0].tolist(), [[o for w, o in found[1:] if w == world] for world in range(2)]

    (first, many), (first_alone, alone) = starts([1, 2, 7], 500), starts([7], 5)
    assert first == first_alone
    for ours, others in zip(many, alone):
        assert len(others) > len(ours) > 16  # more than one block of starts
        assert ours == others[: len(ours)]


def test_a_tabular_world_follows_its_table_per_run():
    successors = torch.tensor([[0, 1], [0, 2], [2, 2]])
    reward = torch.tensor([[[0.0, 1.0], [0.0, 2.0], [0.0, 0.0]], [[0.0, -1.0], [0.0, -2.0], [0.0, 0.0]]])
    env = Tabular([0, 1], successors, reward, torch.tensor([False, False, True]), max_steps=9)
    assert (env.state < 2).all()
    seen = Tabular([0], successors, reward[0], torch.tensor([False, False, True]), envs=1000).state
    assert 400 < (seen == 0).sum() < 600
    env.state = torch.zeros(2, 1, dtype=torch.long)
    assert torch.equal(env.step(torch.tensor([[1], [1]])).reward, torch.tensor([[1.0], [-1.0]]))
    step = env.step(torch.tensor([[0], [1]]))
    assert step.terminated.tolist() == [[False], [True]]
    assert step.final_obs[:, 0].tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_the_adapter_gives_what_gymnasium_gives(name):
    env, theirs, rng = GymVec(name, SEEDS, envs=2, max_steps=30), [], RunRNG(SEEDS, "a")
    for world in env.worlds:
        theirs.append(gymnasium.make(name))
        theirs[-1].reset()
        theirs[-1].unwrapped.state = world.unwrapped.state
    running, ends = [True] * 6, 0
    for _ in range(30):
        action = random_action(env, rng)
        step = Step(*(part.flatten(0, 1) for part in env.step(action)))
        for w, own in enumerate(action.flatten(0, 1)):
            if running[w]:
                native = own.item() if name == "CartPole-v1" else np.array([2 * own.item()], np.float32)
                seen, reward, terminated, _, _ = theirs[w].step(native)
                np.testing.assert_allclose(step.final_obs[w].numpy(), seen, atol=1e-5)
                assert step.reward[w].item() == pytest.approx(reward, abs=1e-5)
                assert step.terminated[w].item() == terminated
                running[w] = not (step.terminated | step.truncated)[w]
                ends += not running[w]
                assert torch.equal(step.obs[w], step.final_obs[w]) == running[w]
    assert ends == 6
    assert step.truncated.any()  # at the limit of 30


def test_the_adapters_runs_are_the_same_in_any_stack():
    together, alone = GymVec("CartPole-v1", SEEDS, envs=2), GymVec("CartPole-v1", SEEDS[1:2], envs=2)
    rng = RunRNG(SEEDS, "a")
    for _ in range(60):
        action = random_action(together, rng)
        many, one = together.step(action), alone.step(action[1:2])
        assert all(torch.equal(a[1:2], b) for a, b in zip(many, one))


def test_the_adapter_stretches_actions_to_the_bounds():
    env = GymVec("MountainCarContinuous-v0", [0])
    assert (env.act_dim, env.n_actions, env.obs_dim, env.max_steps) == (1, None, 2, 999)
    native = GymVec("Pendulum-v1", [0])._native(np.array([0.5], np.float32))
    assert native == pytest.approx(1.0)


def test_the_adapter_names_what_it_cannot_do():
    class Odd(gymnasium.Env):
        action_space, observation_space = gymnasium.spaces.MultiBinary(3), gymnasium.spaces.Box(-1, 1, (2,))

    with pytest.raises(ValueError, match="Box or Discrete"):
        GymVec(Odd, [0])
