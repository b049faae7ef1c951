"""TD3 and DDPG: gradients of one run by itself, noise, delays, targets, independent runs."""

import pytest
import torch
from torch.func import functional_call, grad

from reprise.blocks.rl import td3
from reprise.blocks.seeds import RunRNG

SEEDS = [4, 7, 1]


def _batch(rng, size=8):
    return {
        "obs": rng.normal(size, 3),
        "action": 2 * rng.uniform(size, 2) - 1,
        "reward": rng.normal(size),
        "discount": 0.9 * rng.uniform(size).round(),
        "next_obs": rng.normal(size, 3),
        "weight": rng.uniform(size),
    }


def _modules(net, i, count=1):
    """The networks of run i as ordinary modules."""
    return [net.module(i * count + k) for k in range(count)]


def _check(store, row, alone):
    """Gradients in a store's row against those of an ordinary module."""
    found = {name: view[row] for name, view in store.views(store.grad).items()}
    for k, name in enumerate(("0", "2", "4")):
        torch.testing.assert_close(found[f"{k}.weight"], alone[f"{name}.weight"].T, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[f"{k}.bias"][0], alone[f"{name}.bias"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_gradients_are_those_of_each_runs_own_losses(count):
    config = td3.Config((8, 8), critics=count, policy_delay=1, target_noise=0.0, tau=0.3)
    agent, rng = td3.create(SEEDS, 3, 2, config), RunRNG(SEEDS, "batches")
    td3.update(agent, _batch(rng))  # now targets differ from networks
    agent.actor_optimizer.learning_rate = agent.critic_optimizer.learning_rate = 0.0
    batch = _batch(rng)
    actor_target, critic_target = (
        [_modules(net, i, k) for i in range(3)] for net, k in ((agent.actor_target, 1), (agent.critic_target, count))
    )
    td3.update(agent, batch)
    for i in range(3):
        own = {name: value[i] for name, value in batch.items()}
        both = torch.cat([own["next_obs"], actor_target[i][0](own["next_obs"])], 1)
        ahead = torch.stack([critic(both)[:, 0] for critic in critic_target[i]]).amin(0)
        goal = (own["reward"] + own["discount"] * ahead).detach()
        critics, (actor,) = _modules(agent.critic, i, count), _modules(agent.actor, i)
        pairs = torch.cat([own["obs"], own["action"]], 1)
        for k, critic in enumerate(critics):
            error = lambda p, c=critic, g=goal, w=own["weight"], x=pairs: (  # noqa: E731
                w * (functional_call(c, p, x)[:, 0] - g) ** 2
            ).mean()
            _check(agent.critic.params, i * count + k, grad(error)(dict(critic.named_parameters())))
        first = critics[0]
        loss = lambda p, a=actor, c=first, x=own["obs"]: -c(torch.cat([x, functional_call(a, p, x)], 1)).mean()  # noqa: E731
        _check(agent.actor.params, i, grad(loss)(dict(actor.named_parameters())))


def _trained(seeds, updates=200, masks=None, config=None):
    agent = td3.create(seeds, 3, 2, config or td3.Config((16, 16)))
    rng = RunRNG(seeds, "batches")
    for step in range(updates):
        td3.update(agent, _batch(rng), None if masks is None else masks(step))
    return agent


def _stores(agent):
    return [agent.actor.params, agent.actor_target.params, agent.critic.params, agent.critic_target.params]


@pytest.mark.usefixtures("unchecked")
def test_a_run_is_the_same_in_a_stack_and_alone():
    many, one = _trained(list(range(10))), _trained([6])
    for together, alone in zip(_stores(many), _stores(one)):
        rows = len(alone.flat)
        torch.testing.assert_close(together.flat[6 * rows : 7 * rows], alone.flat, atol=1e-5, rtol=1e-4)


def test_masked_runs_keep_everything_and_their_own_rhythm():
    before = _trained(SEEDS, 21)
    after = _trained(SEEDS, 40, lambda step: torch.tensor([True, step < 21, True]))
    for old, new in zip(_stores(before), _stores(after)):
        rows = len(old.flat) // 3
        assert torch.equal(new.flat[rows : 2 * rows], old.flat[rows : 2 * rows])
        assert not torch.equal(new.flat[:rows], old.flat[:rows])
    assert after.updates.tolist() == [40, 21, 40]
    assert after.actor_optimizer.steps[:, 0].tolist() == [20, 10, 20]


def test_actor_and_targets_wait_for_their_turn():
    agent, rng = td3.create(SEEDS, 3, 2, td3.Config((8,), policy_delay=3)), RunRNG(SEEDS, "b")
    start = [store.flat.clone() for store in _stores(agent)]
    moved = []
    for _ in range(3):
        td3.update(agent, _batch(rng))
        moved.append([not torch.equal(store.flat, old) for store, old in zip(_stores(agent), start)])
    assert moved == [[False, False, True, False]] * 2 + [[True] * 4]


def test_targets_move_by_tau():
    agent, rng = td3.create(SEEDS, 3, 2, td3.Config((8,), policy_delay=1, tau=0.1)), RunRNG(SEEDS, "b")
    old = agent.critic_target.params.flat.clone()
    td3.update(agent, _batch(rng))
    torch.testing.assert_close(agent.critic_target.params.flat, 0.9 * old + 0.1 * agent.critic.params.flat)


def test_target_actions_are_noisy_within_the_clip():
    agent = td3.create([0], 3, 2, td3.Config((8,), target_noise=0.2, noise_clip=0.3))
    batch = {name: value[:, :1].expand(-1, 4000, *value.shape[2:]) for name, value in _batch(RunRNG([0], "b")).items()}
    batch |= {"reward": torch.zeros(1, 4000), "discount": torch.ones(1, 4000)}
    agent.critic_target.params.flat.zero_()  # both critics: the first action plus a large number
    views = agent.critic_target.params.views(agent.critic_target.params.flat)
    views["0.weight"][:, 3, 0], views["0.bias"][:, 0, 0], views["1.weight"][:, 0, 0] = 1.0, 10.0, 1.0
    noise = td3.td_target(agent, batch) - 10.0 - agent.actor_target(batch["next_obs"])[..., 0]
    assert noise.abs().max().item() == pytest.approx(0.3, abs=1e-4)
    assert (noise.abs() > 0.2999).float().mean().item() == pytest.approx(0.1336, abs=0.02)  # P(|N(0, 0.2)| > 0.3)
    assert noise.clamp(-0.1, 0.1).std() > 0.05


def test_extra_losses_enter_with_their_gradients():
    agent, batch = td3.create(SEEDS, 3, 2, td3.Config((8,), policy_delay=1)), _batch(RunRNG(SEEDS, "b"))
    agent.actor_optimizer.learning_rate = agent.critic_optimizer.learning_rate = 0.0
    agent.config = td3.Config((8,), policy_delay=1, target_noise=0.0, tau=0.0)
    td3.update(agent, batch)
    plain = agent.critic.params.grad.clone(), agent.actor.params.grad.clone()

    def on_critic(agent, batch, cache):
        assert cache["q"].shape == (3, 2, 8)
        return cache["q"].mean((1, 2)) * 3

    def on_actor(agent, batch, cache):  # what a cloning term looks like
        return (cache["action"] - batch["action"]).square().mean((1, 2))

    td3.update(agent, batch, extra_critic_loss=on_critic, extra_actor_loss=on_actor)
    change = agent.critic.params.views(agent.critic.params.grad - plain[0])["1.bias"]
    torch.testing.assert_close(change, torch.full_like(change, 1.5), atol=1e-5, rtol=0)
    actor = agent.actor.module(1)
    cloning = lambda p: (functional_call(actor, p, batch["obs"][1]) - batch["action"][1]).square().mean()  # noqa: E731
    alone = grad(cloning)(dict(actor.named_parameters()))
    change = agent.actor.params.views(agent.actor.params.grad - plain[1])["0.weight"][1]
    torch.testing.assert_close(change, alone["0.weight"].T, atol=1e-5, rtol=1e-4)


def test_exploration_noise_has_its_deviation_per_run_and_stays_inside():
    agent = td3.create([0, 1], 3, 2, td3.Config((8,)))
    obs = torch.zeros(2, 10_000, 3)
    still = td3.act(agent, obs)
    noisy = td3.act(agent, obs, torch.tensor([0.05, 0.1]))
    deviation = (noisy - still).std((1, 2))
    torch.testing.assert_close(deviation, torch.tensor([0.05, 0.1]), atol=0, rtol=0.03)
    assert td3.act(agent, obs, 5.0).abs().max() == 1
