"""PPO: a bandit, gradients of one run by itself, the first step's identities, independent runs."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.func import functional_call, grad

from reprise.blocks.rl import evaluate, loop, ppo
from reprise.blocks.rl.buffer import collect
from reprise.blocks.rl.envs import CartPole, Pendulum, TensorEnv

SEEDS = [4, 7, 1]


class Arms(TensorEnv):
    """Two arms that pay 1 with probability 0.2 and 0.8; one step per episode."""

    obs_dim, n_actions, start_uniforms, max_steps = 1, 2, 1, 1

    def begin(self, u):
        return torch.ones_like(u)

    def advance(self, state, action):
        pays = self.rng.uniform(self.envs) < 0.2 + 0.6 * action
        return state, pays.float(), torch.ones_like(pays)

    def observe(self, state):
        return state


@pytest.mark.usefixtures("unchecked")
def test_the_better_arm_is_found_and_its_worth_known():
    env = Arms(SEEDS, envs=16)
    agent = ppo.create(SEEDS, 1, n_actions=2, config=ppo.Config((8,), learning_rate=1e-2, epochs=4))
    obs = torch.ones(3, 1, 1)
    even = agent.actor(obs, params=agent.parts["actor"]).softmax(-1)
    assert (even - 0.5).abs().max() < 0.02
    loop.on_policy(
        env, lambda seen: ppo.explore(agent, seen), lambda rollout, i: ppo.update(agent, rollout), 25, horizon=8
    )
    assert (agent.actor(obs, params=agent.parts["actor"]).softmax(-1)[..., 1] > 0.95).all()
    assert (ppo.act(agent, obs) == 1).all()
    assert ppo.value(agent, obs).mean().item() == pytest.approx(0.8, abs=0.1)


@pytest.mark.usefixtures("unchecked")
def test_a_pole_is_balanced_ten_times_longer_than_at_random():
    def lengths():
        test = CartPole(SEEDS, envs=10, stream="test")
        return evaluate.episodes(test, lambda obs: ppo.act(agent, obs)).lengths.float().mean().item()

    env = CartPole(SEEDS, envs=8)
    agent = ppo.create(SEEDS, 4, n_actions=2, config=ppo.Config((32,), learning_rate=5e-3, epochs=5, gamma=0.98))
    loop.on_policy(
        env, lambda seen: ppo.explore(agent, seen), lambda rollout, i: ppo.update(agent, rollout), 14, horizon=64
    )
    assert lengths() > 200  # a random policy falls after about 22 steps


@pytest.mark.parametrize("world", [Pendulum, CartPole])
def test_drawn_actions_have_the_probabilities_they_say(world):
    env = world(SEEDS, envs=4000)
    agent = ppo.create(
        SEEDS, env.obs_dim, env.act_dim, env.n_actions, ppo.Config((8,), first_log_std=-0.5, last_gain=1.0)
    )
    one = env.obs[:, :1].expand(-1, 4000, -1).contiguous()
    drawn = ppo.explore(agent, one)
    output = agent.actor(one, params=agent.parts["actor"])
    if world is CartPole:
        theirs = Categorical(logits=output)
        share = drawn["action"].float().mean(1)
        torch.testing.assert_close(share, theirs.probs[:, 0, 1], atol=0.03, rtol=0)
        torch.testing.assert_close(drawn["log_prob"], theirs.log_prob(drawn["action"]))
    else:
        theirs = Normal(output, math.exp(-0.5))
        torch.testing.assert_close(drawn["action"].mean(1), output[:, 0], atol=0.04, rtol=0)
        torch.testing.assert_close(drawn["action"].std(1), torch.full((3, 1), math.exp(-0.5)), atol=0.03, rtol=0)
        torch.testing.assert_close(drawn["log_prob"], theirs.log_prob(drawn["action"]).sum(-1))
    _, entropy = ppo.log_prob_and_entropy(agent, one, drawn["action"])
    expected = theirs.entropy() if world is CartPole else theirs.entropy().sum(-1)
    torch.testing.assert_close(entropy, expected)


def _rollout(world, agent, seeds, steps=6):
    env = world(seeds, envs=4)
    return collect(env, lambda obs: ppo.explore(agent, obs), steps)


def _agent(world, seeds, config):
    return ppo.create(seeds, world.obs_dim, world.act_dim, world.n_actions, config)


@pytest.mark.parametrize("world", [Pendulum, CartPole])
@pytest.mark.parametrize("cap", [None, 0.5])
def test_gradients_are_those_of_each_runs_own_loss(world, cap):
    settings = {"epochs": 1, "minibatches": 1, "max_norm": None, "entropy_weight": 0.03, "value_cap": cap, "clip": 0.1}
    agent = _agent(world, SEEDS, ppo.Config((8, 8), learning_rate=0.0, last_gain=1.0, **settings))
    rollout = _rollout(world, agent, SEEDS)
    rollout["log_prob"] = rollout["log_prob"] + 0.2 * torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    found, seen = ppo.update(agent, rollout), {}
    ppo.update(agent, rollout, extra_loss=lambda agent, batch, cache: seen.update(batch) or torch.zeros(3))
    gradients = agent.params.views(agent.params.grad)
    for i in range(3):
        own = {name: value[i] for name, value in seen.items()}
        modules = {
            name: net.with_params(_store(net, agent.parts[name])).module(i)
            for name, net in (("actor", agent.actor), ("critic", agent.critic))
        }
        params = {f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters()}
        if world is Pendulum:
            params["log_std"] = agent.params["log_std"][i].detach()

        def loss(p, own=own, modules=modules):
            output, expected = (_call(modules[name], p, f"{name}.", own["obs"]) for name in ("actor", "critic"))
            policy = Normal(output, p["log_std"].exp()) if "log_std" in p else Categorical(logits=output)
            log_prob, entropy = policy.log_prob(own["action"]), policy.entropy()
            if "log_std" in p:
                log_prob, entropy = log_prob.sum(-1), entropy.sum(-1)
            ratio = (log_prob - own["log_prob"]).exp()
            gain = (own["advantage"] - own["advantage"].mean()) / (own["advantage"].std() + 1e-8)
            gained = torch.minimum(ratio * gain, ratio.clamp(0.9, 1.1) * gain).mean()
            error = (expected[:, 0] - own["goal"]) ** 2
            error = error if cap is None else torch.where(error > cap, torch.full_like(error, cap), error)
            return -gained + 0.5 * error.mean() - 0.03 * entropy.mean()

        alone = grad(loss)(params)
        for name in ("actor", "critic"):
            for k, key in enumerate(("0", "2", "4")):
                ours = gradients[f"{name}.{k}.weight"][i]
                torch.testing.assert_close(ours, alone[f"{name}.{key}.weight"].T, atol=1e-5, rtol=1e-4)
                ours = gradients[f"{name}.{k}.bias"][i, 0]
                torch.testing.assert_close(ours, alone[f"{name}.{key}.bias"], atol=1e-5, rtol=1e-4)
        if world is Pendulum:
            torch.testing.assert_close(gradients["log_std"][i], alone["log_std"], atol=1e-5, rtol=1e-4)
    assert (found["kl"] > 0).all()


def _call(module, params, prefix, x):
    return functional_call(module, {k[len(prefix) :]: v for k, v in params.items() if k.startswith(prefix)}, x)


def _store(net, parts):
    store = net.params.select(slice(None))
    store.load(parts)
    return store


def test_before_the_first_step_the_ratio_is_one_and_nothing_has_diverged():
    agent, ratios = _agent(CartPole, SEEDS, ppo.Config((8,), epochs=1, minibatches=1, learning_rate=0.0)), []
    rollout = _rollout(CartPole, agent, SEEDS)
    found = ppo.update(agent, rollout, extra_loss=lambda a, b, c: ratios.append(c["ratio"]) or torch.zeros(3))
    torch.testing.assert_close(ratios[0], torch.ones(3, 24))
    assert found["kl"].abs().max() < 1e-6
    assert found["policy_loss"].abs().max() < 1e-6  # mean of normalised advantages


def test_minibatches_cover_a_roll_out_once_per_epoch():
    agent, seen = _agent(CartPole, SEEDS, ppo.Config((8,), epochs=2, minibatches=3)), []
    rollout = _rollout(CartPole, agent, SEEDS)
    ppo.update(agent, rollout, extra_loss=lambda a, b, c: seen.append(b["obs"].clone()) or torch.zeros(3))
    assert [tuple(obs.shape) for obs in seen] == [(3, 8, 4)] * 6
    for epoch in (seen[:3], seen[3:]):
        for i in range(3):
            together = torch.cat(epoch, 1)[i]
            assert sorted(together.tolist()) == sorted(rollout["obs"][i].flatten(0, 1).tolist())
    assert not torch.equal(seen[0], seen[3])
    with pytest.raises(ValueError, match="24 transitions has no 25 minibatches"):
        ppo.update(_agent(CartPole, SEEDS, ppo.Config((8,), minibatches=25)), rollout)


def _trained(world, seeds, rounds=5, masks=None):
    agent = _agent(world, seeds, ppo.Config((16, 16), learning_rate=1e-3))
    env = world(seeds, envs=4)
    for i in range(rounds):
        rollout = collect(env, lambda obs: ppo.explore(agent, obs), 16)
        ppo.update(agent, rollout, None if masks is None else masks(i))
    return agent


@pytest.mark.parametrize("world", [Pendulum, CartPole])
@pytest.mark.usefixtures("unchecked")
def test_a_run_is_the_same_in_a_stack_and_alone(world):
    many, one = _trained(world, list(range(10))), _trained(world, [6])  # 200 gradient steps
    torch.testing.assert_close(many.params.flat[6:7], one.params.flat, atol=1e-5, rtol=1e-3)


def test_masked_runs_keep_everything():
    before = _trained(CartPole, SEEDS, 1)
    after = _trained(CartPole, SEEDS, 2, lambda i: torch.tensor([True, i < 1, True]))
    assert torch.equal(after.params.flat[1], before.params.flat[1])
    assert not torch.equal(after.params.flat[0], before.params.flat[0])


def test_one_kind_of_action_must_be_named():
    with pytest.raises(ValueError, match="either act_dim or n_actions"):
        ppo.create([0], 3)
