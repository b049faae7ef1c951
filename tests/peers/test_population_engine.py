"""Our populations against Ray Tune's scheduler: same decisions, same runs, same results on the paper's toy."""

import random

import numpy as np
import pytest
import torch
from scipy import stats

pytest.importorskip("ray.tune", reason="the peer engine is in tests/peers/requirements.txt")

import importlib.util  # noqa: E402
from pathlib import Path  # noqa: E402

from reprise.blocks import population as pop  # noqa: E402
from reprise.blocks.population import Population, Prior  # noqa: E402
from reprise.blocks.seeds import RunRNG  # noqa: E402
from reprise.search import population_based_training as pbt  # noqa: E402

_spec = importlib.util.spec_from_file_location("ray_hand", Path(__file__).with_name("ray_without_cluster.py"))
ray_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ray_hand)

PRIORS = (Prior("h0", 0.02, 1.5, log=True), Prior("h1", 0.02, 1.5, log=True))
MEMBERS, STEPS, READY, RATE, FACTORS = 8, 60, 5, 0.05, (0.8, 1.2)


def _clipped(config):
    return {p.name: min(max(config[p.name], p.low), p.high) for p in PRIORS}


def _ascend(theta, h, noise):
    return theta - RATE * 2 * h * theta + 0.01 * noise


def _noise(seeds):
    """Noise of the place (seeds, steps, members, 2): without it copies tie, and the engines break ties differently."""
    return RunRNG(seeds, "place").normal(STEPS, MEMBERS, 2).double()


def _configs(values):
    return [{"h0": float(h[0]), "h1": float(h[1])} for h in values]


def _first_values(seeds, dtype=torch.float64):
    return pop.sample(PRIORS, RunRNG(seeds, "hyper").uniform(MEMBERS, 2).to(dtype))


def _run_ray(seed):
    """The toy with 8 workers, trained one by one as Ray trains trials; also who copied whom, and values per segment."""
    values, noise = _first_values([seed])[0], _noise([seed])[0].numpy()
    engine = ray_hand.HandEngine(_configs(values), [np.full(2, 0.9)] * MEMBERS, 0.25, FACTORS, _clipped, seed)
    donors, segments = [], [values.tolist()]
    for step in range(1, STEPS + 1):
        for place, trial in enumerate(engine.trials):
            h = np.array([trial.config["h0"], trial.config["h1"]])
            trial.state = _ascend(trial.state, h, noise[step - 1, place])
        if step % READY == 0 and step < STEPS:
            donors.append(engine.round([1.2 - (t.state**2).sum() for t in engine.trials]))
            segments.append([[t.config["h0"], t.config["h1"]] for t in engine.trials])
    return np.stack([t.state for t in engine.trials]), donors, torch.tensor(segments, dtype=torch.float64)


def _run_ours(seeds, theirs=None):
    """The same toy as one stack; with `theirs` (donors, values) exploration and donors are those that Ray drew."""
    values, noise, runs = _first_values(seeds), _noise(seeds), len(seeds)
    theta = torch.full((runs * MEMBERS, 2), 0.9, dtype=torch.float64)
    people, rng = Population(PRIORS, values, [theta]), RunRNG(seeds, "evolution")
    for step in range(1, STEPS + 1):
        theta.copy_(_ascend(theta, people.values.view(-1, 2), noise[:, step - 1].reshape(-1, 2)))
        if step % READY == 0 and step < STEPS:
            scores, number = pbt.objective(theta).view(runs, MEMBERS), step // READY
            if theirs is None:
                uniforms = rng.uniform(MEMBERS, 2)
                donors = pop.truncation(scores, rng.uniform(MEMBERS), 0.25)
                people.evolve(step, donors, lambda h, u=uniforms: pop.perturb(PRIORS, h, u, FACTORS))
                continue
            given, ray_values = torch.tensor([theirs[0][number - 1]]), theirs[1]
            moved = given != torch.arange(MEMBERS)
            # the same members are replaced, and by members of the same upper quarter; only who is drawn is Ray's
            picks = pop.truncation(scores, rng.uniform(MEMBERS), 0.25)
            assert torch.equal(picks != torch.arange(MEMBERS), moved)
            assert set(given[moved].tolist()) <= set(pop.ranks(scores)[0].argsort()[: MEMBERS // 4].tolist())
            before = people.values.gather(1, given[..., None].expand(-1, -1, 2))[0]
            raised = (ray_values[number] > before) | ((ray_values[number] == before) & (before == 1.5))  # clipped
            uniforms = raised.double()[None]  # 0 takes the lower factor, 1 the higher
            people.evolve(step, given, lambda h, u=uniforms: pop.perturb(PRIORS, h, u, FACTORS))
    return theta.view(runs, MEMBERS, 2), people.lineage()


@pytest.mark.parametrize("seed", range(5))
def test_given_rays_draws_the_stack_makes_rays_run(seed):
    """Quantiles, copying, perturbation after the copy, clipping: all weights and values agree, round for round."""
    theirs, donors, values = _run_ray(seed)
    ours, lineage = _run_ours([seed], (donors, values))
    assert np.allclose(ours[0].numpy(), theirs, atol=1e-12)
    assert torch.equal(lineage.donors[1:, 0], torch.tensor(donors))
    assert torch.allclose(lineage.values[:, 0], values, rtol=1e-12, atol=0)


def test_with_own_draws_both_engines_end_alike():
    """Final best Q over 200 seeds is one distribution (Kolmogorov-Smirnov), better than the best fixed worker's."""
    seeds = list(range(200))
    ours = pbt.objective(_run_ours(seeds)[0]).amax(1).numpy()
    theirs = np.array([(1.2 - (_run_ray(seed)[0] ** 2).sum(1)).max() for seed in seeds])
    assert stats.ks_2samp(ours, theirs).pvalue > 0.01
    fixed = torch.full((200, MEMBERS, 2), 0.9, dtype=torch.float64)
    for noise in _noise(seeds).unbind(1):
        fixed = _ascend(fixed, _first_values(seeds), noise)
    assert min(ours.mean(), theirs.mean()) > pbt.objective(fixed).amax(1).mean().item()


def test_perturbation_of_one_value_is_rays():
    """Both multiply by one of the factors with equal odds, then clip."""
    from ray.tune.schedulers.pbt import _explore

    random.seed(0)
    config, mutations = {"h0": 0.1, "h1": 1.4}, {"h0": lambda: 0.0, "h1": lambda: 0.0}
    theirs = [_explore(config, mutations, 0.0, FACTORS, _clipped)[0] for _ in range(4000)]
    ours = pop.perturb(PRIORS, torch.tensor([[[0.1, 1.4]]]).expand(1, 4000, 2), RunRNG([0]).uniform(4000, 2))[0]
    for i, name in enumerate(config):
        (low, a), (high, b) = (np.unique(np.round(x, 5), return_counts=True) for x in (
            [c[name] for c in theirs], ours[:, i].numpy()))  # fmt: skip
        assert np.allclose(low, high, rtol=1e-4)
        assert stats.chi2_contingency([a, b]).pvalue > 1e-3
