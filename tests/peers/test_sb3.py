"""The deep-RL core against stable-baselines3: equal networks and equal batches give equal updates, run by run.

Both sides start from the same weights and see the same transitions; theirs takes its own `train()` step, with draws
that cannot be shared (target noise, the order of minibatches, squashed noise) switched off or handed over.
"""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.logger import configure
from torch import nn

from reprise.blocks.rl import dqn, ppo, sac, td3
from reprise.blocks.seeds import RunRNG

SEEDS, SIZE, WIDTH, GAMMA, RATE = [0, 1, 2], 32, 16, 0.97, 1e-2


def _theirs(algorithm, name, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = algorithm("MlpPolicy", gymnasium.make(name), gamma=GAMMA, device="cpu", seed=0, **settings)
    model.set_logger(configure(None, []))
    return model


def _copy(ours: nn.Module, theirs: nn.Module) -> None:
    """Weights of one run into their network: linear layers in order."""
    layers = [[m for m in net.modules() if isinstance(m, nn.Linear)] for net in (ours, theirs)]
    assert [m.weight.shape for m in layers[0]] == [m.weight.shape for m in layers[1]]
    for mine, other in zip(*layers):
        other.load_state_dict(mine.state_dict())


def _assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    for mine, other in zip(*([m for m in net.modules() if isinstance(m, nn.Linear)] for net in (ours, theirs))):
        torch.testing.assert_close(mine.weight, other.weight, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(mine.bias, other.bias, atol=2e-5, rtol=1e-4)


def _batch(obs_dim, action):
    rng = RunRNG(SEEDS, "batch")
    ended = rng.uniform(SIZE) < 0.3
    batch = {
        "obs": rng.normal(SIZE, obs_dim),
        "action": action(rng),
        "reward": rng.normal(SIZE),
        "discount": GAMMA * (~ended).float(),
        "next_obs": rng.normal(SIZE, obs_dim),
    }
    return batch, ended


def _fill(model, batch, ended, i, scale=1.0):
    """The batch of run i as their whole replay, drawn in order."""
    for j in range(SIZE):
        own = {name: value[i, j].numpy() for name, value in batch.items()}
        action = np.atleast_1d(own["action"])[None]
        step = (own["obs"][None], own["next_obs"][None], action, own["reward"][None], ended[i, j].numpy()[None])
        model.replay_buffer.add(*step, [{}])
    model.replay_buffer.sample = lambda size, env=None: model.replay_buffer._get_samples(np.arange(SIZE), env)


def test_dqn_takes_the_same_steps():
    config = dqn.Config((WIDTH, WIDTH), learning_rate=RATE, target_every=1000, max_norm=10.0)
    agent = dqn.create(SEEDS, 4, 2, config)
    agent.target.params.flat.mul_(0.9)
    batch, ended = _batch(4, lambda rng: rng.randint(2, SIZE))
    models = []
    for i in range(3):
        model = _theirs(DQN, "CartPole-v1", learning_rate=RATE, policy_kwargs={"net_arch": [WIDTH, WIDTH]})
        _copy(agent.net.module(i), model.q_net)
        _copy(agent.target.module(i), model.q_net_target)
        _fill(model, batch, ended, i)
        model.train(gradient_steps=5, batch_size=SIZE)
        models.append(model)
    for _ in range(5):
        dqn.update(agent, batch)
    for i, model in enumerate(models):
        _assert_same(agent.net.module(i), model.q_net)


@pytest.mark.parametrize("count", [1, 2])
def test_td3_and_ddpg_take_the_same_steps(count):
    config = td3.Config(
        (WIDTH, WIDTH), "relu", RATE, RATE, tau=0.1, critics=count, policy_delay=count, target_noise=0.0
    )
    agent = td3.create(SEEDS, 3, 1, config)
    batch, ended = _batch(3, lambda rng: 2 * rng.uniform(SIZE, 1) - 1)
    models = []
    for i in range(3):
        model = _theirs(
            TD3,
            "Pendulum-v1",
            learning_rate=RATE,
            tau=0.1,
            policy_delay=count,
            target_policy_noise=1e-12,
            policy_kwargs={"net_arch": [WIDTH, WIDTH], "n_critics": count},
        )
        for net, target in ((model.actor, model.actor_target), (model.critic, model.critic_target)):
            mine = agent.actor.module(i) if net is model.actor else _critics(agent.critic, i, count)
            _copy(mine, net)
            _copy(mine, target)
        _fill(model, batch, ended, i)
        model.train(gradient_steps=6, batch_size=SIZE)
        models.append(model)
    for _ in range(6):
        td3.update(agent, batch)
    for i, model in enumerate(models):
        _assert_same(agent.actor.module(i), model.actor)
        _assert_same(_critics(agent.critic, i, count), model.critic)
        _assert_same(agent.actor_target.module(i), model.actor_target)
        _assert_same(_critics(agent.critic_target, i, count), model.critic_target)


def _critics(net, i, count):
    return nn.ModuleList([net.module(i * count + k) for k in range(count)])


def test_sac_takes_the_same_steps(monkeypatch):
    config = sac.Config((WIDTH, WIDTH), "relu", RATE, RATE, RATE, alpha=0.5, tau=0.1)
    agent = sac.create(SEEDS, 3, 1, config)
    batch, ended = _batch(3, lambda rng: 2 * rng.uniform(SIZE, 1) - 1)
    noise = RunRNG(SEEDS, "update")
    draws = [noise.normal(2, SIZE, 1) for _ in range(4)]
    models = []
    for i in range(3):
        model = _theirs(
            SAC,
            "Pendulum-v1",
            learning_rate=RATE,
            tau=0.1,
            ent_coef="auto_0.5",
            policy_kwargs={"net_arch": [WIDTH, WIDTH]},
        )
        mine = agent.actor.module(i)
        hidden, last = mine[:-2], mine[-2]
        _copy(hidden, model.actor.latent_pi)
        with torch.no_grad():
            for head, part in ((model.actor.mu, slice(0, 1)), (model.actor.log_std, slice(1, 2))):
                head.weight.copy_(last.weight[part])
                head.bias.copy_(last.bias[part])
        _copy(_critics(agent.critic, i, 2), model.critic)
        _copy(_critics(agent.critic, i, 2), model.critic_target)
        _fill(model, batch, ended, i)
        # they draw the noise of the present action first, then that of the next one
        mine_in_their_order = iter([d[i, k] for d in draws for k in (1, 0)])
        with monkeypatch.context() as patch:
            patch.setattr(
                torch.distributions.Normal,
                "rsample",
                lambda self, shape=None, own=mine_in_their_order: self.loc + self.scale * next(own),
            )
            model.train(gradient_steps=4, batch_size=SIZE)
        models.append(model)
    for _ in range(4):
        sac.update(agent, batch)
    for i, model in enumerate(models):
        mine = agent.actor.module(i)
        _assert_same(mine[:-2], model.actor.latent_pi)
        last = torch.cat([model.actor.mu.weight, model.actor.log_std.weight])
        torch.testing.assert_close(mine[-2].weight, last, atol=2e-5, rtol=1e-4)
        _assert_same(_critics(agent.critic, i, 2), model.critic)
        _assert_same(_critics(agent.critic_target, i, 2), model.critic_target)
        assert agent.alpha[i].item() == pytest.approx(model.log_ent_coef.exp().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_ppo_takes_the_same_steps_with_the_same_advantages(name):
    discrete = name == "CartPole-v1"
    sizes = {"act_dim": None if discrete else 1, "n_actions": 2 if discrete else None}
    config = ppo.Config(
        (WIDTH, WIDTH), learning_rate=RATE, gamma=GAMMA, lam=0.9, epochs=3, minibatches=1, entropy_weight=0.01
    )
    obs_dim = 4 if discrete else 3
    agent = ppo.create(SEEDS, obs_dim, **sizes, config=config)
    agent.optimizer.eps = 1e-5  # theirs
    rng = RunRNG(SEEDS, "batch")
    obs = rng.normal(SIZE + 1, 1, obs_dim)
    rollout = {
        "obs": obs[:, :-1],
        "next_obs": obs[:, 1:],
        "reward": rng.normal(SIZE, 1),
        "terminated": rng.uniform(SIZE, 1) < 0.2,
        "truncated": torch.zeros(3, SIZE, 1, dtype=torch.bool),
    }
    chosen = [ppo.explore(agent, rollout["obs"][:, t]) for t in range(SIZE)]
    rollout |= {key: torch.stack([c[key] for c in chosen], 1) for key in ("action", "log_prob")}
    models = []
    for i in range(3):
        model = _theirs(
            PPO,
            name,
            learning_rate=RATE,
            gae_lambda=0.9,
            n_steps=SIZE,
            batch_size=SIZE,
            n_epochs=3,
            ent_coef=0.01,
            policy_kwargs={"net_arch": [WIDTH, WIDTH]},
        )
        actor, critic = (
            _module(net, agent.parts[part], i) for net, part in ((agent.actor, "actor"), (agent.critic, "critic"))
        )
        policy = model.policy
        _copy(actor, nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net))
        _copy(critic, nn.Sequential(policy.mlp_extractor.value_net, policy.value_net))
        buffer, values = model.rollout_buffer, policy.predict_values(obs[i, :, 0])
        buffer.reset()
        for t in range(SIZE):
            first = t == 0 or bool(rollout["terminated"][i, t - 1])
            buffer.add(
                rollout["obs"][i, t].numpy(),
                rollout["action"][i, t].numpy(),
                rollout["reward"][i, t].numpy(),
                np.array([first]),
                values[t].detach(),
                rollout["log_prob"][i, t],
            )
        buffer.compute_returns_and_advantage(values[-1].detach(), rollout["terminated"][i, -1].numpy())
        model.train()
        models.append(model)
    ppo.update(agent, rollout)
    for i, model in enumerate(models):
        policy = model.policy
        actor, critic = (
            _module(net, agent.parts[part], i) for net, part in ((agent.actor, "actor"), (agent.critic, "critic"))
        )
        _assert_same(actor, nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net))
        _assert_same(critic, nn.Sequential(policy.mlp_extractor.value_net, policy.value_net))
        if not discrete:
            torch.testing.assert_close(agent.params["log_std"][i], policy.log_std, atol=1e-5, rtol=1e-4)


def _module(net, parts, i):
    store = net.params.select(slice(None))
    store.load(parts)
    return net.with_params(store).module(i)
