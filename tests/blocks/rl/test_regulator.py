"""A linear-quadratic problem, whose best policy is known: TD3, DDPG and SAC must find the Riccati gain."""

import pytest
import torch

from reprise.blocks.rl import loop, sac, td3
from reprise.blocks.rl.buffer import Replay
from reprise.blocks.rl.envs import TensorEnv

SEEDS, GAMMA = [4, 7, 1], 0.8


class Regulator(TensorEnv):
    """x' = x + 0.5 a, reward -(x² + 0.5 a²); starts in [-1, 1), cut (not ended) after 10 steps."""

    obs_dim, act_dim, start_uniforms, max_steps = 1, 1, 1, 10

    def begin(self, u):
        return 2 * u - 1

    def advance(self, state, action):
        reward = -(state.square() + 0.5 * action.square())[..., 0]
        return state + 0.5 * action, reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state):
        return state


def riccati_gain(a=1.0, b=0.5, q=1.0, r=0.5):
    """The best linear feedback -K x of the discounted scalar problem, by iterating the Riccati equation."""
    p = q
    for _ in range(1000):
        p = q + GAMMA * a * p * a - (GAMMA * a * p * b) ** 2 / (r + GAMMA * b * p * b)
    return GAMMA * b * p * a / (r + GAMMA * b * p * b)


NETS = {"hidden": (32, 32), "activation": "tanh", "tau": 0.05, "critic_learning_rate": 5e-3}
METHODS = {
    "td3": (td3, td3.Config(**NETS, actor_learning_rate=2e-3, target_noise=0.05), {"noise": 0.3}),
    "ddpg": (td3, td3.ddpg(**NETS), {"noise": 0.3}),
    "sac": (sac, sac.Config(**NETS, alpha=0.05, alpha_learning_rate=0.0), {"explore": True}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("unchecked")
def test_the_policy_has_the_riccati_gain(name):
    method, config, exploration = METHODS[name]
    env = Regulator(SEEDS, envs=4)
    agent, replay = method.create(SEEDS, 1, 1, config), Replay.of(env, 20_000, GAMMA)
    loop.off_policy(
        env,
        replay,
        lambda obs, step: method.act(agent, obs, **exploration),
        lambda batch: method.update(agent, batch),
        steps=1500,
        random_steps=250,
    )
    x = torch.linspace(-0.8, 0.8, 41).view(1, -1, 1).expand(3, -1, -1)
    gain = -(method.act(agent, x) * x).sum((1, 2)) / x.square().sum((1, 2))  # least squares, per run
    assert gain.mean().item() == pytest.approx(riccati_gain(), rel=0.05)
    assert (gain - riccati_gain()).abs().max() < 0.1 * riccati_gain()
