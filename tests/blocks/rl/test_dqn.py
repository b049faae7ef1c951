"""DQN: exact values of a chain, gradients of one run by itself, runs that do not touch one another."""

import pytest
import torch
from torch.func import functional_call, grad

from reprise.blocks.rl import dqn
from reprise.blocks.rl.buffer import Replay
from reprise.blocks.rl.envs import Tabular, random_action
from reprise.blocks.rl.networks import copy_of
from reprise.blocks.seeds import RunRNG

SEEDS, GAMMA = [4, 7, 1], 0.9
STATES = 5


def _chain():
    """Five states in a row: 1 for entering the last, which ends the episode; 0.2 for staying at the first."""
    places = torch.arange(STATES)
    successors = torch.stack([(places - 1).clamp(min=0), (places + 1).clamp(max=STATES - 1)], 1)
    reward = torch.zeros(STATES, 2)
    reward[STATES - 2, 1], reward[0, 0] = 1.0, 0.2
    return successors, reward, places == STATES - 1


def _exact():
    """Q* of the chain by hand: walking right pays γ^(distance - 1), staying at the first state pays 0.2 / (1 - γ)."""
    stay = 0.2 / (1 - GAMMA)
    value = [max(stay * GAMMA**s, GAMMA ** (STATES - 2 - s)) for s in range(STATES - 1)] + [0.0]
    q = torch.zeros(STATES, 2)
    for s in range(STATES - 1):
        q[s, 0] = 0.2 + GAMMA * value[0] if s == 0 else GAMMA * value[s - 1]
        q[s, 1] = 1.0 if s == STATES - 2 else GAMMA * value[s + 1]
    return q


@pytest.mark.parametrize(("nstep", "double", "max_steps"), [(1, False, 3), (1, True, 7)])
@pytest.mark.usefixtures("unchecked")
def test_q_values_of_a_chain_are_exact_although_episodes_are_cut(nstep, double, max_steps):
    env = Tabular(SEEDS, *_chain(), envs=4, max_steps=max_steps)
    config = dqn.Config((), learning_rate=0.03, target_every=25, loss="mse", double=double)
    agent = dqn.create(SEEDS, STATES, 2, config)
    replay, rng = Replay.of(env, 4000, GAMMA, nstep), RunRNG(SEEDS, "walk")
    for _ in range(1000):
        action = random_action(env, rng)
        replay.add(env.obs, action, env.step(action))
    for _ in range(1500):
        dqn.update(agent, replay.sample(32))
    q = agent.net(torch.eye(STATES).expand(3, -1, -1)).detach()
    assert (q - _exact())[:, :-1].abs().max() < 0.01
    assert torch.equal(
        dqn.act(agent, torch.eye(STATES).expand(3, -1, -1))[:, :-1], _exact().argmax(-1)[:-1].expand(3, -1)
    )


def _batch(seeds, obs_dim=3, actions=4, size=8):
    rng = RunRNG(seeds, "batch")
    return {
        "obs": rng.normal(size, obs_dim),
        "action": rng.randint(actions, size),
        "reward": 2 * rng.normal(size),
        "discount": GAMMA * (rng.uniform(size) < 0.8).float(),
        "next_obs": rng.normal(size, obs_dim),
        "weight": rng.uniform(size),
    }


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_gradients_are_those_of_each_runs_own_loss(double, loss):
    agent = dqn.create(SEEDS, 3, 4, dqn.Config((8, 8), double=double, loss=loss, learning_rate=0.0))
    agent.target = copy_of(agent.net)
    agent.target.params.flat.add_(0.1)
    batch = _batch(SEEDS)
    dqn.update(agent, batch)
    found = {name: view.clone() for name, view in agent.net.params.views(agent.net.params.grad).items()}
    for i in range(3):
        net, target = agent.net.module(i), agent.target.module(i)
        own = {name: value[i] for name, value in batch.items()}

        def loss_of(params, net=net, target=target, own=own):
            q = functional_call(net, params, own["obs"]).gather(1, own["action"][:, None])[:, 0]
            ahead = target(own["next_obs"])
            best = net(own["next_obs"]).argmax(1) if double else ahead.argmax(1)
            goal = own["reward"] + own["discount"] * ahead[torch.arange(8), best]
            error = (q - goal.detach()).abs()
            each = error**2 if loss == "mse" else torch.where(error < 1, error**2 / 2, error - 0.5)
            return (own["weight"] * each).mean()

        alone = grad(loss_of)(dict(net.named_parameters()))
        for k, name in enumerate(("0", "2", "4")):
            torch.testing.assert_close(found[f"{k}.weight"][i], alone[f"{name}.weight"].T, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found[f"{k}.bias"][i, 0], alone[f"{name}.bias"], atol=1e-5, rtol=1e-5)


def test_gradients_agree_with_finite_differences():
    agent = dqn.create([0], 2, 2, dqn.Config((2,), "tanh", learning_rate=0.0, loss="mse"))
    batch = _batch([0], 2, 2)
    dqn.update(agent, batch)
    gradient, flat = agent.net.params.grad.clone(), agent.net.params.flat
    for j in range(flat.shape[1]):
        losses = []
        for shift in (1e-2, -2e-2):
            flat[0, j] += shift
            losses.append(dqn.update(agent, batch)["loss"].item())
        flat[0, j] += 1e-2
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(gradient[0, j].item(), abs=2e-3)


def _trained(seeds, updates=200, masks=None):
    agent = dqn.create(seeds, 3, 4, dqn.Config((16, 16), target_every=7, max_norm=1.0))
    rng = RunRNG(seeds, "batches")
    for step in range(updates):
        batch = {
            "obs": rng.normal(8, 3),
            "action": rng.randint(4, 8),
            "reward": rng.normal(8),
            "discount": 0.9 * rng.uniform(8).round(),
            "next_obs": rng.normal(8, 3),
        }
        dqn.update(agent, batch, None if masks is None else masks(step))
    return agent


@pytest.mark.usefixtures("unchecked")
def test_a_run_is_the_same_in_a_stack_and_alone():
    many, one = _trained(list(range(10))), _trained([6])
    torch.testing.assert_close(many.net.params.flat[6:7], one.net.params.flat, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(many.target.params.flat[6:7], one.target.params.flat, atol=1e-5, rtol=1e-4)
    assert many.updates.tolist() == [200] * 10


def test_masked_runs_keep_everything_and_go_on_as_if_nothing_had_happened():
    everyone = _trained(SEEDS, 20)
    resting = _trained(SEEDS, 40, lambda step: torch.tensor([True, step < 20, True]))
    assert torch.equal(resting.net.params.flat[1], everyone.net.params.flat[1])
    assert torch.equal(resting.target.params.flat[1], everyone.target.params.flat[1])
    assert resting.updates.tolist() == [40, 20, 40]
    assert not torch.equal(resting.net.params.flat[0], everyone.net.params.flat[0])


def test_extra_losses_enter_with_their_gradients():
    agent, batch = dqn.create(SEEDS, 3, 4, dqn.Config((8,), learning_rate=0.0)), _batch(SEEDS)
    dqn.update(agent, batch)
    plain = agent.net.params.grad.clone()
    scale = torch.tensor([0.0, 1.0, 2.0])

    def extra(agent, batch, cache):
        assert cache["q"].shape == (3, 8, 4)
        assert cache["target"].shape == (3, 8)
        assert cache["features"][0].shape == (3, 8, 8)
        return scale * agent.net.params.get("1.bias").square().sum((1, 2))

    dqn.update(agent, batch, extra_loss=extra)
    change = agent.net.params.views(agent.net.params.grad - plain)
    expected = 2 * scale.view(-1, 1, 1) * agent.net.params["1.bias"].detach()
    torch.testing.assert_close(change["1.bias"], expected, atol=1e-6, rtol=1e-4)
    assert change["0.weight"].abs().max() < 1e-6


def test_exploration_has_the_odds_it_should_have():
    agent = dqn.create([0, 1], 2, 3, dqn.Config(()))
    obs = torch.zeros(2, 20_000, 2)
    best = agent.net.params["0.bias"].argmax(-1)
    epsilon = torch.tensor([0.0, 0.6])
    chosen = dqn.act(agent, obs, epsilon)
    assert (chosen[0] == best[0]).all()
    assert (chosen[1] == best[1]).float().mean().item() == pytest.approx(1 - 0.6 * 2 / 3, abs=0.015)
    heat = torch.tensor([0.3, 5.0])
    odds = (agent.net.params["0.bias"][:, 0] / heat[:, None]).softmax(-1)
    chosen = dqn.act_softmax(agent, obs, heat)
    shares = torch.stack([row.bincount(minlength=3) / 20_000 for row in chosen])
    torch.testing.assert_close(shares, odds.detach(), atol=0.015, rtol=0)


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="huber or mse"):
        dqn.Config(loss="l1")
