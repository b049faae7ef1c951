"""Batched Acrobot against gymnasium's Acrobot-v1, state by state."""

import numpy as np
import torch
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from reprise.blocks import acrobot


def test_a_thousand_steps_agree_with_gymnasium():
    env, rng = AcrobotEnv(), np.random.default_rng(0)
    env.reset(seed=0)
    state, arrivals = torch.tensor(np.array(env.state, dtype=np.float64)), 0
    for _ in range(1000):
        action = int(rng.integers(acrobot.ACTIONS))
        env.state = state.numpy().copy()
        seen, reward, arrived, _, _ = env.step(action)
        state, ours = acrobot.step(state, torch.tensor(action))
        assert np.allclose(env.state, state.numpy(), atol=1e-12)
        assert np.allclose(seen, acrobot.observe(state).numpy(), atol=1e-5)
        assert bool(ours) == arrived == (reward == 0.0)
        arrivals += arrived
        if rng.random() < 0.1:  # other places than a random policy reaches
            state = torch.tensor(rng.uniform(-1, 1, 4) * [np.pi, np.pi, 4 * np.pi, 9 * np.pi])
    assert arrivals > 0


def test_first_states_have_gymnasiums_range():
    env = AcrobotEnv()
    theirs = np.array([np.abs(env.reset(seed=i)[0][1::2]).max() for i in range(200)])
    first = acrobot.start(torch.rand(10_000, 4, generator=torch.Generator().manual_seed(0)))
    assert first.abs().max() <= 0.1
    assert abs(first.abs().max() - 0.1) < 1e-3
    assert theirs.max() <= np.sin(0.1)
