"""The penalties and samplers against exact cases, finite differences and counting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from reprise.blocks import ode
from reprise.science import locally_regularized_neural_odes as local

TINY = replace(local.QUICK, hidden=8, batch=16, updates=3, sde_updates=3)
CONTROL = ode.Control(1e-5, 1e-5)
SEEDS = [0, 1, 2]


def fields(runs=2, width=3):
    """A small smooth field in double precision with one leaf, and a state."""
    torch.manual_seed(0)
    weight = torch.randn(runs, width, width, dtype=torch.float64).requires_grad_()
    return (
        (lambda t, z: torch.bmm(z, weight).tanh() + t.view(-1, 1, 1)),
        weight,
        torch.randn(runs, 4, width, dtype=torch.float64),
    )


def by_hand(field, weight, t1, z1, first, h):
    """E h written out with the pair's numbers, from given first stage and step size."""
    step = ode.rk_step(field, t1, z1, h, first)
    allowed = 1e-5 + 1e-5 * torch.maximum(z1.abs(), step.end.abs())
    return (step.difference / allowed).square().mean((1, 2)).sqrt() * h


# --- penalties


def test_penalty_and_gradient_vanish_for_a_constant_field():
    slope = torch.full((2, 4, 3), 0.5, dtype=torch.float64, requires_grad=True)
    r = local.local_penalty(
        lambda t, z: slope, torch.full((2,), 0.3).double(), torch.zeros(2, 4, 3).double(), CONTROL, True
    )
    assert float(r.detach().max()) < 1e-9
    r.sum().backward()
    assert float(slope.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("through_first", [False, True])
def test_gradient_of_the_penalty_matches_finite_differences_with_its_constants_held(through_first):
    field, weight, z1 = fields()
    t1 = torch.tensor([0.2, 0.6], dtype=torch.float64)
    with torch.no_grad():
        first = field(t1, z1)
        # a larger step than the integrator's, because finite differences need an estimate above rounding
        h = torch.full((2,), 0.4, dtype=torch.float64)

    def value():
        return by_hand(field, weight, t1, z1, field(t1, z1) if through_first else first, h).sum()

    gradient = torch.autograd.grad(value(), weight)[0]
    with torch.no_grad():
        for entry in ((0, 0, 1), (1, 2, 0)):
            ends = []
            for sign in (1, -1):
                weight[entry] += sign * 1e-6
                ends.append(float(value()))
                weight[entry] -= sign * 1e-6
            assert float(gradient[entry]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=3e-5)
    ours = torch.autograd.grad(local.local_penalty(field, t1, z1, CONTROL, through_first).sum(), weight)[0]
    with torch.no_grad():
        own = ode.initial_step(field, t1, z1, first, 1 - t1, CONTROL)
    expected = torch.autograd.grad(
        by_hand(field, weight, t1, z1, field(t1, z1) if through_first else first, own).sum(), weight
    )[0]
    assert torch.allclose(ours, expected, rtol=1e-9)


def test_the_constant_first_stage_is_what_makes_the_gradient_large():
    field, weight, z1 = fields()
    t1 = torch.tensor([0.2, 0.6], dtype=torch.float64)
    with_it, without = (
        torch.autograd.grad(local.local_penalty(field, t1, z1, CONTROL, whole).sum(), weight)[0].norm()
        for whole in (True, False)
    )
    assert float(without / with_it) > 100  # the weights of a consistent pair cancel only if all stages move


def test_mean_penalty_over_uniform_times_is_its_time_integral_for_a_fixed_step():
    field, _, z0 = fields(1)
    h = torch.full((1,), 0.05, dtype=torch.float64)

    def r(t):
        with torch.no_grad():
            z = z0 if t == 0 else ode.solve(field, z0, torch.tensor([0.0, t], dtype=torch.float64), CONTROL).last
            when = torch.tensor([t], dtype=torch.float64)
            return float(by_hand(field, None, when, z, field(when, z), h))

    grid = np.linspace(0, 1, 41)
    integral = np.trapezoid([r(t) for t in grid], grid)
    drawn = [r(float(t)) for t in np.random.default_rng(0).random(300)]
    assert np.mean(drawn) == pytest.approx(integral, abs=3.5 * np.std(drawn) / np.sqrt(300))


def test_global_penalty_is_the_sum_of_error_times_size_over_accepted_steps():
    field, weight, z0 = fields()
    eager = ode.Control(1e-4, 1e-4, error_power=0.2, memory_power=0.0, safety=0.99)
    solution = ode.solve(
        lambda t, z: 6 * torch.sin(20 * t).view(-1, 1, 1) * field(t, z), z0, torch.tensor([0.0, 1.0]), eager
    )
    assert bool((~solution.accepted & (solution.h > 0)).any())  # a rejected attempt must not count
    expected = [
        sum(float(e) * float(h) for e, h, taken in zip(*row) if taken)
        for row in zip(solution.errors.detach(), solution.h, solution.accepted)
    ]
    assert local.global_penalty(solution).tolist() == pytest.approx(expected, rel=1e-9)


def test_biased_sampler_draws_every_accepted_time_but_the_last_equally_often():
    field, _, z0 = fields()
    solution = ode.solve(field, z0, torch.tensor([0.0, 1.0]), ode.Control(1e-7, 1e-7), keep_path=True)
    draws = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    for run in range(2):
        starts = solution.t[run][solution.accepted[run]]
        times = torch.stack([local.accepted_times(solution, u)[0][run] for u in draws])
        counts = [int((times == t).sum()) for t in starts]
        assert sum(counts) == len(draws)
        assert float(times.max()) < 1
        assert stats.chisquare(counts).pvalue > 1e-3


def test_biased_sampler_returns_the_state_of_its_time():
    field, _, z0 = fields()
    solution = ode.solve(field, z0, torch.tensor([0.0, 1.0]), CONTROL, keep_path=True)
    t1, z1 = local.accepted_times(solution, torch.tensor([0.7, 0.4]))
    for run in range(2):
        times = torch.tensor([0.0, float(t1[run])], dtype=torch.float64)
        again = ode.solve(field, z0, times, ode.Control(1e-9, 1e-9)).last
        assert torch.allclose(again[run], z1[run], atol=1e-4)


# --- training and measuring


def test_weight_zero_with_the_biased_sampler_is_training_without_penalty_bit_for_bit():
    plain, other = (local.train(m, SEEDS, TINY, weight=0.0).params.flat for m in ("none", "accepted"))
    assert torch.equal(plain, other)


@pytest.mark.parametrize("method", ["none", "uniform", "global", "exact"])
def test_each_run_trains_as_if_alone(method):
    together = local.train(method, SEEDS, TINY)
    alone = local.train(method, SEEDS[1:2], TINY)
    assert torch.allclose(together.params.flat[1], alone.params.flat[0], atol=2e-5)
    assert torch.equal(together.evaluations[1], alone.evaluations[0])


def test_adjoint_and_steps_give_nearly_the_same_first_update():
    through, adjoint = (
        local.train("none", SEEDS, replace(TINY, updates=1, tolerance=1e-6), adjoint=a).params.flat
        for a in (False, True)
    )
    start = local.init(SEEDS, TINY).flat
    moved = torch.cosine_similarity((through - start).flatten(), (adjoint - start).flatten(), dim=0)
    assert float(moved) > 0.99  # Adam's first update is the sign of the gradient


def test_an_update_is_charged_for_the_stop_and_the_extra_step():
    params, x = local.init(SEEDS, TINY), torch.rand(3, 16, 64)
    u = torch.tensor([0.2, 0.5, 0.8])
    plain = local.forward("none", params, x, u, TINY)[2]
    assert torch.equal(local.forward("accepted", params, x, u, TINY)[2], plain + 8)
    assert bool((local.forward("uniform", params, x, u, TINY)[2] >= plain + 8).all())


def test_time_is_an_input_of_both_layers():
    torch.manual_seed(0)
    params, z = local.init([4], TINY), torch.rand(1, 5, 64)
    own = params.run(0)
    hidden = torch.tanh(torch.cat([z[0], torch.full((5, 1), 0.3)], 1) @ own["field.in.weight"] + own["field.in.bias"])
    out = torch.tanh(torch.cat([hidden, torch.full((5, 1), 0.3)], 1) @ own["field.out.weight"] + own["field.out.bias"])
    assert torch.allclose(local.field(params)(torch.tensor([0.3]), z)[0], out, atol=1e-6)


def test_a_saving_bought_with_more_than_two_points_counts_as_none():
    plain = local.Measured(torch.tensor([50.0, 50.0]), torch.tensor([0.95, 0.95]))
    other = local.Measured(torch.tensor([40.0, 40.0]), torch.tensor([0.94, 0.92]))
    assert local.saving(other, plain).tolist() == pytest.approx([0.2, 0.0])


def test_measured_evaluations_are_those_of_mini_batches_solved_one_by_one():
    params, sets = local.init(SEEDS, TINY), local.digits(SEEDS)
    found = local.measure(params, SEEDS, TINY)
    one, counts = params.select(2), []
    for batch in sets.test_x[2].split(36):
        counts.append(int(ode.solve(local.field(one), batch[None], torch.tensor([0.0, 1.0]), TINY.control).evaluations))
    assert float(found.evaluations[2]) == pytest.approx(np.mean(counts))
    assert len(counts) == 10


def test_tuning_takes_the_largest_weight_that_costs_at_most_a_point():
    plain = local.Measured(torch.tensor([50.0, 50.0]), torch.tensor([0.95, 0.95]))
    found = local.Measured(torch.arange(8.0), torch.tensor([0.95, 0.95, 0.95, 0.93, 0.94, 0.935, 0.9, 0.9]))
    chosen, trials = local._choose((1.0, 2.0, 3.0, 4.0), plain, found)
    assert chosen == 2.0
    assert len(trials) == 5
    assert trials[2].accuracy_change == pytest.approx(-0.01)


def test_methods_that_look_inside_the_solver_refuse_the_adjoint():
    with pytest.raises(ValueError, match="look inside"):
        local.train("global", SEEDS, TINY, adjoint=True)


# --- the stochastic variant


def test_stochastic_penalty_vanishes_for_constant_drift_and_diffusion():
    params = local.sde_init(SEEDS)
    with torch.no_grad():
        params.flat.mul_(0.0)
        params["drift.out.bias"].fill_(0.3)
        params["diffusion.bias"].fill_(0.2)
    r = local.sde_local_penalty(params, torch.rand(3, 4, 32), torch.randn(3, 4, 32), CONTROL)
    assert float(r.detach().abs().max()) < 1e-6


def test_stochastic_training_moves_all_parameters_and_stays_finite():
    params = local.train_sde(SEEDS[:1], TINY, 30.0)
    assert bool(params.flat.isfinite().all())
    start = local.sde_init(SEEDS[:1])
    assert all(bool((params[name] != start[name]).any()) for name in params if name != "head.bias")
