"""SAC: the closed form of a one-step problem, gradients of one run by itself, independent runs."""

import math

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.func import functional_call, grad

from reprise.blocks.rl import loop, sac
from reprise.blocks.rl.buffer import Replay
from reprise.blocks.rl.envs import TensorEnv
from reprise.blocks.seeds import RunRNG

SEEDS = [4, 7, 1]


class Bandit(TensorEnv):
    """One step, one observation; the reward is -(a - 0.2)² / (2 · 0.1²) α with α = 0.5, known in closed form."""

    obs_dim, act_dim, start_uniforms, max_steps = 1, 1, 1, 1

    def begin(self, u):
        return torch.ones_like(u)

    def advance(self, state, action):
        reward = -0.5 * (action[..., 0] - 0.2).square() / (2 * 0.1**2)
        return state, reward, torch.ones_like(reward, dtype=torch.bool)

    def observe(self, state):
        return state


@pytest.mark.usefixtures("unchecked")
def test_one_step_problems_have_the_soft_optimum_at_a_fixed_temperature_and_at_a_fixed_entropy():
    # max E[r] + α H is the density ∝ exp(r / α), for α = 0.5 a Gaussian at 0.2 with deviation 0.1, well inside [-1, 1];
    # three runs keep that α, the same three again move it until the deviation is 0.05: variances are as temperatures
    seeds, target = SEEDS * 2, math.log(0.05) + 0.5 * math.log(2 * math.pi * math.e)
    env, entropies = Bandit(seeds, envs=16), []
    config = sac.Config(
        hidden=(32, 32),
        activation="tanh",
        critic_learning_rate=5e-3,
        actor_learning_rate=3e-3,
        alpha=0.5,
        alpha_learning_rate=torch.tensor([0.0] * 3 + [0.005] * 3),
        target_entropy=target,
    )
    agent = sac.create(seeds, 1, 1, config)
    loop.off_policy(
        env,
        Replay.of(env, 2000),
        lambda obs, step: sac.act(agent, obs, explore=True),
        lambda batch: entropies.append(sac.update(agent, batch)["entropy"]),
        steps=900,
        random_steps=60,
    )
    drawn = sac.act(agent, torch.ones(6, 20_000, 1), explore=True)[..., 0]
    torch.testing.assert_close(drawn.view(2, 3, -1).mean((1, 2)), torch.tensor([0.2, 0.2]), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(1).view(2, 3).mean(1), torch.tensor([0.1, 0.05]), atol=0, rtol=0.15)
    assert torch.equal(agent.alpha[:3], torch.full((3,), 0.5))
    assert agent.alpha[3:].mean().item() == pytest.approx(0.125, rel=0.3)
    assert torch.stack(entropies[-200:], 1)[3:].mean().item() == pytest.approx(target, abs=0.1)


def _batch(rng, size=8):
    return {
        "obs": rng.normal(size, 3),
        "action": 2 * rng.uniform(size, 2) - 1,
        "reward": rng.normal(size),
        "discount": 0.9 * rng.uniform(size).round(),
        "next_obs": rng.normal(size, 3),
    }


def test_log_densities_are_those_of_a_squashed_gaussian():
    agent = sac.create(SEEDS, 3, 2, sac.Config((8,)))
    agent.actor.params["1.bias"].data.add_(torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0)))
    rng = RunRNG(SEEDS, "x")
    obs, noise = rng.normal(50, 3), rng.normal(50, 2)
    action, log_prob = sac.squashed(agent, obs, noise)
    mean, log_std = agent.actor(obs).chunk(2, -1)
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    before = mean + log_std.exp() * noise
    log_density = Normal(mean, log_std.exp()).log_prob(before) - TanhTransform().log_abs_det_jacobian(before, action)
    torch.testing.assert_close(log_prob, log_density.sum(-1), atol=1e-4, rtol=1e-4)
    close = action.abs() < 0.99
    direct = theirs.log_prob(action.clamp(-0.999999, 0.999999))
    torch.testing.assert_close(direct[close], log_density[close], atol=1e-3, rtol=1e-3)


def test_gradients_are_those_of_each_runs_own_losses():
    agent, rng = sac.create(SEEDS, 3, 2, sac.Config((8, 8), tau=0.3, alpha=0.4)), RunRNG(SEEDS, "batches")
    sac.update(agent, _batch(rng))
    for optimizer in (agent.actor_optimizer, agent.critic_optimizer, agent.alpha_optimizer):
        optimizer.learning_rate = 0.0
    targets = [[agent.critic_target.module(2 * i + k) for k in range(2)] for i in range(3)]
    batch, alpha = _batch(rng), agent.alpha
    again = RunRNG(SEEDS, "update")
    again.normal(2, 8, 2)
    noise = again.normal(2, 8, 2)
    sac.update(agent, batch)

    def drawn(actor, obs, eps, params):
        mean, log_std = functional_call(actor, params, obs).chunk(2, -1)
        before = mean + log_std.exp() * eps
        density = -0.5 * eps**2 - log_std - 0.5 * math.log(2 * math.pi) - (1 - before.tanh() ** 2).log()
        return before.tanh(), density.sum(-1)

    for i in range(3):
        own = {name: value[i] for name, value in batch.items()}
        actor, critics = agent.actor.module(i), [agent.critic.module(2 * i + k) for k in range(2)]
        params = dict(actor.named_parameters())
        ahead, log_ahead = drawn(actor, own["next_obs"], noise[i, 0], params)
        both = torch.cat([own["next_obs"], ahead], 1)
        least = torch.minimum(*(critic(both)[:, 0] for critic in targets[i]))
        goal = (own["reward"] + own["discount"] * (least - alpha[i] * log_ahead)).detach()
        pairs = torch.cat([own["obs"], own["action"]], 1)
        for k, critic in enumerate(critics):
            error = lambda p, c=critic, x=pairs, g=goal: 0.5 * ((functional_call(c, p, x)[:, 0] - g) ** 2).mean()  # noqa: E731
            _check(agent.critic.params, 2 * i + k, grad(error)(dict(critic.named_parameters())))

        def loss(p, actor=actor, critics=critics, own=own, i=i):
            action, log_prob = drawn(actor, own["obs"], noise[i, 1], p)
            x = torch.cat([own["obs"], action], 1)
            return (alpha[i] * log_prob - torch.minimum(*(c(x)[:, 0] for c in critics))).mean()

        _check(agent.actor.params, i, grad(loss)(params))
        _, log_prob = drawn(actor, own["obs"], noise[i, 1], params)
        slope = -(log_prob - 2).mean()  # of -log α (log π + target), target minus two dimensions
        assert agent.temperature.grad[i].item() == pytest.approx(slope.item(), abs=1e-4)


def _check(store, row, alone):
    found = {name: view[row] for name, view in store.views(store.grad).items()}
    for k, name in enumerate(("0", "2", "4")):
        torch.testing.assert_close(found[f"{k}.weight"], alone[f"{name}.weight"].T, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found[f"{k}.bias"][0], alone[f"{name}.bias"], atol=1e-5, rtol=1e-4)


def _trained(seeds, updates=200, masks=None):
    agent, rng = sac.create(seeds, 3, 2, sac.Config((16, 16))), RunRNG(seeds, "batches")
    for step in range(updates):
        sac.update(agent, _batch(rng), None if masks is None else masks(step))
    return agent


def _stores(agent):
    return [agent.actor.params, agent.critic.params, agent.critic_target.params, agent.temperature]


@pytest.mark.usefixtures("unchecked")
def test_a_run_is_the_same_in_a_stack_and_alone():
    many, one = _trained(list(range(10))), _trained([6])
    for together, alone in zip(_stores(many), _stores(one)):
        rows = len(alone.flat)
        torch.testing.assert_close(together.flat[6 * rows : 7 * rows], alone.flat, atol=1e-5, rtol=1e-3)


def test_masked_runs_keep_everything():
    before = _trained(SEEDS, 10)
    after = _trained(SEEDS, 20, lambda step: torch.tensor([True, step < 10, True]))
    for old, new in zip(_stores(before), _stores(after)):
        rows = len(old.flat) // 3
        assert torch.equal(new.flat[rows : 2 * rows], old.flat[rows : 2 * rows])
        assert not torch.equal(new.flat[:rows], old.flat[:rows])


def test_extra_losses_see_what_they_may_use():
    agent, batch, seen = sac.create(SEEDS, 3, 2, sac.Config((8,))), _batch(RunRNG(SEEDS, "b")), []

    def extra(agent, batch, cache):
        seen.append({name: tuple(value.shape) for name, value in cache.items()})
        return 0.0 * cache["q"].flatten(1).mean(1)

    sac.update(agent, batch, extra_critic_loss=extra, extra_actor_loss=extra)
    assert seen == [{"q": (3, 2, 8), "target": (3, 8)}, {"q": (3, 8), "action": (3, 8, 2), "log_prob": (3, 8)}]


def test_a_temperature_is_positive():
    with pytest.raises(ValueError, match="positive"):
        sac.create([0], 1, 1, sac.Config(alpha=0.0))
