"""The stacked training loop and what is read off it."""

import pytest
import torch
from torch import nn

from reprise.blocks.seeds import FlatSGD, RunRNG, StackedMLP
from reprise.blocks.training import (
    accuracy,
    batches,
    best,
    cross_entropy,
    drops,
    epochs,
    gather,
    time_to_target,
    train,
)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


def test_every_epoch_shows_each_sample_once_in_an_order_of_the_runs_own():
    stream = epochs(RunRNG([0, 1], "order"), 12, 4)
    first = torch.cat([next(stream) for _ in range(3)], 1)
    second = torch.cat([next(stream) for _ in range(3)], 1)
    for epoch in (first, second):
        assert torch.equal(epoch.sort(1).values, torch.arange(12).expand(2, 12))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_an_incomplete_batch_is_dropped_and_an_impossible_one_refused():
    stream = epochs(RunRNG([0], "order"), 10, 4)
    epoch = torch.cat([next(stream) for _ in range(2)], 1)
    assert len(set(epoch[0].tolist())) == 8
    with pytest.raises(ValueError, match="without replacement"):
        next(epochs(RunRNG([0], "order"), 3, 4))


def test_batches_with_replacement_stay_in_range():
    index = next(batches(RunRNG([0, 1], "order"), 5, 1000))
    assert index.shape == (2, 1000)
    assert index.min() == 0
    assert index.max() == 4


def test_gather_takes_each_runs_samples_from_its_own_or_from_common_data():
    own, index = torch.randn(3, 7, 2, 4), torch.randint(7, (3, 5))
    expected = torch.stack([own[r][index[r]] for r in range(3)])
    assert torch.equal(gather(own, index), expected)
    common = own[0]
    assert torch.equal(gather(common, index, shared=True), torch.stack([common[i] for i in index]))
    assert torch.equal(gather(own[..., 0, 0], index), expected[..., 0, 0])
    with pytest.raises(ValueError, match="shared=True"):
        gather(own, index[:2])


def test_losses_and_accuracies_are_those_of_each_run():
    logits, labels = torch.randn(3, 8, 4), torch.randint(4, (3, 8))
    for r in range(3):
        torch.testing.assert_close(cross_entropy(logits, labels)[r], nn.functional.cross_entropy(logits[r], labels[r]))
        assert accuracy(logits, labels)[r] == (logits[r].argmax(1) == labels[r]).float().mean()


def _problem(runs, seeds):
    x, y = RunRNG(seeds, "x").normal(60, 5), RunRNG(seeds, "y").randint(3, 60)
    mlp = StackedMLP(seeds, [5, 8, 3])
    order = epochs(RunRNG(seeds, "order"), 60, 10)

    def loss(step):
        index = next(order)
        return cross_entropy(mlp(gather(x, index)), gather(y, index))

    return mlp, loss, lambda: {"loss": cross_entropy(mlp(x), y)}


def test_training_equals_a_plain_torch_loop():
    seeds = [4, 9]
    mlp, loss, evaluate = _problem(2, seeds)
    modules = [mlp.module(i) for i in range(2)]
    schedule = drops(0.5, 30, (0.5,), 0.1)
    history = train(FlatSGD(mlp.params, 0.5), loss, 30, learning_rate=schedule, evaluate=evaluate, every=10)
    assert history.steps.tolist() == [0, 10, 20, 30]
    x, y = RunRNG(seeds, "x").normal(60, 5), RunRNG(seeds, "y").randint(3, 60)
    for r, module in enumerate(modules):
        losses = []
        order = epochs(RunRNG(seeds, "order"), 60, 10)
        for step in range(31):
            if step % 10 == 0:
                losses.append(nn.functional.cross_entropy(module(x[r]), y[r]).item())
            index = next(order)[r]
            module.zero_grad()
            nn.functional.cross_entropy(module(x[r][index]), y[r][index]).backward()
            with torch.no_grad():
                for p in module.parameters():
                    p -= (0.5 if step < 15 else 0.05) * p.grad
        torch.testing.assert_close(history["loss"][r], torch.tensor(losses), rtol=0, atol=1e-5)
    torch.testing.assert_close(history.last("loss"), history["loss"][:, -1])


def test_parameters_outside_the_mask_never_move():
    mlp, loss, evaluate = _problem(2, [1, 2])
    alive = torch.rand(mlp.params.flat.shape) < 0.5
    mlp.params.flat.mul_(alive)
    before = mlp.params.flat.clone()
    history = train(FlatSGD(mlp.params, 0.5, momentum=0.9), loss, 20, alive=alive, evaluate=evaluate)
    assert history.steps.tolist() == [20]
    assert (mlp.params.flat[~alive] == 0).all()
    assert (mlp.params.flat != before)[alive].float().mean() > 0.5


def test_training_without_looks_trains_all_the_same():
    (one, loss_one, _), (two, loss_two, look) = _problem(2, [1, 2]), _problem(2, [1, 2])
    silent = train(FlatSGD(one.params, 0.5), loss_one, 20)
    train(FlatSGD(two.params, 0.5), loss_two, 20, evaluate=look, every=5)
    assert torch.equal(one.params.flat, two.params.flat)
    assert silent.steps.tolist() == []
    assert silent.values == {}


def test_best_value_and_its_first_step_within_the_window():
    steps = torch.tensor([0, 10, 20, 30])
    values = torch.tensor([[3.0, 1.0, 1.0, 0.5], [4.0, 3.0, 2.0, 2.5]])
    lowest, at = best(steps, values)
    assert lowest.tolist() == [0.5, 2.0]
    assert at.tolist() == [30, 20]
    lowest, at = best(steps, values, upto=20)
    assert lowest.tolist() == [1.0, 2.0]
    assert at.tolist() == [10, 20]


def test_time_to_target_is_the_first_arrival_or_the_censoring_step():
    steps = torch.tensor([0, 10, 20, 30])
    values = torch.tensor([[3.0, 1.0, 2.0, 0.5], [4.0, 3.0, 2.0, 0.5], [4.0, 3.0, 3.0, 3.0]])
    times, reached = time_to_target(steps, values, torch.tensor([1.0, 1.0, 1.0]), censored_at=20)
    assert times.tolist() == [10, 20, 20]
    assert reached.tolist() == [True, False, False]


def test_learning_rate_drops_at_the_named_shares():
    rate = drops(1.0, 100, (0.6, 0.85), 0.2)
    assert [rate(s) for s in (0, 59)] == [1.0, 1.0]
    assert rate(60) == pytest.approx(0.2)
    assert rate(85) == pytest.approx(0.04)
