"""Bags: what the generators promise, poolings against single bags, AUC against scikit-learn."""

import pytest
import torch
from jaxtyping import install_import_hook
from sklearn.metrics import roc_auc_score

with install_import_hook("reprise", "beartype.beartype"):
    from reprise.blocks import bags
    from reprise.blocks.seeds import build, generators

POOLINGS = [
    *(bags.FixedPooling(kind, late) for kind in ("mean", "max", "sum") for late in (False, True)),
    *(bags.AttentionPooling(heads, gated) for heads in (1, 4) for gated in (False, True)),
]


def codes_of(instances):
    return ((instances > 0) * 2 ** torch.arange(instances.shape[-1])).sum(-1)


def normal(*shape):
    return torch.randn(*shape, generator=generators([0], "test")[0])


def test_a_positive_bag_holds_one_signal_once_and_a_negative_bag_none():
    train, test = (bags.bit_bags([3, 4], 200, stream, 16, 8, 5) for stream in ("train", "test"))
    for run in range(2):
        positive, negative = (codes_of(train.instances[run][train.positive[run] == label]) for label in (1, 0))
        signals = set(positive.flatten().tolist()) - set(negative.flatten().tolist())
        assert len(signals) == 5  # 1,600 draws show every one of the 250 other patterns in negative bags
        for sample in (train, test):
            codes = codes_of(sample.instances[run])
            assert (codes > 0).all()
            hits = torch.isin(codes, torch.tensor(sorted(signals))).sum(1)
            assert torch.equal(hits, sample.positive[run].long())
            assert sample.positive[run].sum() == 100


def test_bits_of_a_seed_do_not_depend_on_the_stack():
    alone, stacked = bags.bit_bags([4], 20, "train", 16, 8, 5), bags.bit_bags([3, 4], 20, "train", 16, 8, 5)
    assert torch.equal(alone.instances[0], stacked.instances[1])
    assert torch.equal(alone.positive[0], stacked.positive[1])


def test_too_many_signals_are_refused():
    with pytest.raises(ValueError, match="15 signals.*15 patterns of 4 bits"):
        bags.bit_bags([0], 10, "train", 16, 4, 15)


def test_digit_bags_are_positive_exactly_with_a_present_target():
    labels = torch.arange(100).expand(2, -1) % 10
    sample = bags.digit_bags([0, 1], 300, "train", labels)
    length = (~sample.absent).sum(-1)
    assert 4 <= length.min() < 7 < 13 < length.max() <= 16
    assert abs(length.double().mean() - 10) < 0.3
    for run, bag in ((0, 0), (0, 7), (1, 299)):
        present = sample.instances[run, bag][~sample.absent[run, bag]]
        assert sample.positive[run, bag] == float((present % 10 == 9).any())
    assert 0.5 < sample.positive.mean() < 0.8  # 1 - 0.9^10 = 0.65


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_a_pooling_ignores_order_and_absent_instances(pooling):
    params = build(pooling.layers(8, 100), [0, 1])
    x, absent = normal(2, 3, 10, 8), (torch.arange(10) >= 6).expand(2, 3, 10)
    whole = pooling(params, x.clone())
    assert torch.allclose(pooling(params, x.flip(2)), whole, atol=1e-5)
    assert torch.allclose(pooling(params, x.clone(), absent), pooling(params, x[:, :, :6].clone()), atol=1e-5)


def test_attention_pooling_is_the_published_formula():
    pooling = bags.AttentionPooling(gated=True)
    params, x = build(pooling.layers(8, 100), [5]), normal(1, 1, 6, 8)
    own = params.run(0)
    hidden = torch.tanh(x[0, 0] @ own["hidden.weight"] + own["hidden.bias"])
    gate = torch.sigmoid(x[0, 0] @ own["gate.weight"] + own["gate.bias"])
    weights = ((gate * hidden) @ own["score.weight"]).softmax(0)
    wanted = (weights * x[0, 0]).sum(0) @ own["out.weight"] + own["out.bias"]
    assert pooling(params, x).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_mean_sum_and_max_are_what_they_say():
    x = normal(1, 1, 6, 8)
    for kind, reduced in (("mean", x.mean(2)), ("sum", x.sum(2)), ("max", x.amax(2))):
        pooling = bags.FixedPooling(kind, late=True)
        params = build(pooling.layers(8, 100), [5])
        own = params.run(0)
        hidden = torch.relu(reduced[0] @ own["hidden.weight"] + own["hidden.bias"])
        assert pooling(params, x).item() == pytest.approx(
            (hidden @ own["out.weight"] + own["out.bias"]).item(), abs=1e-5
        )
    with pytest.raises(ValueError, match="unknown pooling 'median'"):
        bags.FixedPooling("median").layers(8, 100)


def test_auc_equals_scikit_learn_ties_included():
    scores, positive = (normal(3, 50) * 2).round(), (normal(3, 50) > 0).float()
    wanted = [100 * roc_auc_score(p, s) for p, s in zip(positive, scores)]
    assert bags.auc(scores, positive).tolist() == pytest.approx(wanted, abs=1e-3)


def test_training_solves_a_task_that_a_mean_can_solve_and_scores_in_parts():
    def easy(stream):
        sample = bags.bit_bags([0, 1], 256, stream, 4, 3, 1)
        return sample

    network = bags.bit_network(bags.FixedPooling("max"), 3, 8, 100)
    params = bags.train_bags(network, easy("train"), [0, 1], 1e-2, 150, 64)
    found = bags.score_bags(network, params, easy("test"))
    assert (found > 99).all()
    assert torch.equal(bags.score_bags(network, params, easy("test"), part=7), found)


def test_digit_network_encodes_the_numbered_image():
    images = normal(2, 5, 1, 28, 28)
    network = bags.digit_network(bags.FixedPooling("max"), images, 8, 100)
    params = network.start([0, 1])
    picks = torch.tensor([[[0, 3]], [[4, 4]]])
    features = network.encode(params, picks)
    assert features.shape == (2, 1, 2, 8)
    assert torch.allclose(features[1, 0, 0], features[1, 0, 1])
    assert not torch.allclose(features[0, 0, 0], features[0, 0, 1])
