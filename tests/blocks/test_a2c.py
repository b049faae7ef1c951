"""Actor-critics on Acrobot: advantages, returns, learning."""

import torch

from reprise.blocks import acrobot
from reprise.blocks.a2c import AcrobotAgents, discounted


def test_advantages_are_discounted_sums_within_episodes():
    surprise = torch.randn(2, 6, 1, generator=torch.Generator().manual_seed(0))
    ended = torch.zeros(2, 6, 1)
    ended[:, 3] = 1
    decay = torch.tensor([0.9, 0.5])
    found = discounted(surprise, ended, decay)
    for row in range(2):
        for t in range(6):
            last = 3 if t <= 3 else 5
            expected = sum(decay[row] ** (k - t) * surprise[row, k, 0] for k in range(t, last + 1))
            assert abs(found[row, t, 0] - expected) < 1e-5


def test_with_lambda_one_the_advantage_is_the_return_minus_the_value():
    """Σ_k γ^k (r + γ V' - V) telescopes: the rewards to the end of the episode, discounted, minus V."""
    reward, value = -torch.ones(1, 5, 1), torch.randn(1, 6, 1, generator=torch.Generator().manual_seed(0))
    value[:, 5] = 0.0  # the episode arrives after five steps
    surprise = reward + 0.9 * value[:, 1:] - value[:, :-1]
    ended = torch.tensor([0.0, 0, 0, 0, 1]).view(1, 5, 1)
    returns = torch.tensor([-sum(0.9**k for k in range(5 - t)) for t in range(5)]).view(1, 5, 1)
    found = discounted(surprise, ended, torch.tensor([0.9]))
    assert torch.allclose(found, returns - value[:, :-1], atol=1e-5)


def test_remembered_returns_are_those_of_the_episodes_in_the_rollouts():
    agents = AcrobotAgents([0], members=2, envs=3, rollout=600, hidden=8)
    before = agents.recent.clone()
    _, _, reward, _, _, ended = agents.rollout()
    for row in range(2):
        finished = []
        for env in range(3):
            total = 0.0
            for t in range(600):
                total += reward[row, t, env].item()
                if ended[row, t, env]:
                    finished.append(total)
                    total = 0.0
        assert len(finished) >= 3
        assert sorted(agents.recent[row, -len(finished) :].tolist()) == sorted(finished)
        assert torch.equal(agents.recent[row, : -len(finished)], before[row, len(finished) :])


def test_copies_and_neighbours_do_not_change_an_agent():
    def trained(seeds, copies):
        agents = AcrobotAgents(seeds, members=2, copies=copies, envs=2, rollout=8, hidden=8)
        rows = len(agents.recent)
        for _ in range(3):
            agents.update(torch.full((rows,), 1e-3), torch.full((rows,), 1e-2), torch.full((rows,), 0.9))
        return agents.params.flat.view(copies, len(seeds), 2, -1)

    both = trained([3, 4], 2)
    assert torch.equal(both[0], both[1])
    assert torch.allclose(trained([4], 1)[0, 0], both[0, 1], atol=1e-6)


def test_agents_learn_to_arrive():
    """From 500 steps to fewer than 200 within 20,000 steps of experience (median of six agents)."""
    agents = AcrobotAgents([0], members=6, hidden=32)
    for _ in range(150):
        agents.update(torch.full((6,), 3e-3), torch.full((6,), 1e-2), torch.full((6,), 0.95))
    assert agents.recent[:, -10:].mean(1).median() > -200
    assert agents.recent.max() <= 0
    assert agents.recent.min() >= -acrobot.MOST_STEPS
