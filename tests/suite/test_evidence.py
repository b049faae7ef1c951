"""Evidence: the rules on synthetic effects, and what is refused."""

import base64
import io

import numpy as np
import pytest
import torch
from scipy import stats

from reprise.suite import evidence
from reprise.suite.catalogue import find_card
from reprise.suite.chapter import begin
from reprise.suite.errors import RepriseError


def claim(margin=0.5):
    quick = find_card("lottery-ticket").claims[0]
    return type(quick)(id="c", says="s", paper="p", where="w", effect="e", unit="u", margin=margin, profile="quick")


def test_interval_is_students_t():
    values = np.random.default_rng(0).normal(size=7)
    mean, low, high = evidence.interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("low", "high", "margin", "word"),
    [
        (0.6, 0.9, 0.5, "reproduced"),
        (0.4, 0.9, 0.5, "weaker"),
        (0.5, 0.9, 0.5, "weaker"),
        (0.01, 0.4, 0.5, "weaker"),
        (-0.1, 0.9, 0.5, "inconclusive"),
        (0.0, 0.9, 0.0, "inconclusive"),
        (-0.9, -0.1, 0.5, "contradicted"),
        (-0.9, 0.0, 0.5, "inconclusive"),
        (1e-9, 1e-9, 0.0, "reproduced"),
    ],
)
def test_verdict_follows_the_interval(low, high, margin, word):
    assert evidence.verdict(low, high, margin) == word


@pytest.mark.parametrize("seeds", [5, 10])
def test_without_an_effect_reproduced_appears_in_at_most_two_and_a_half_percent(seeds):
    draws = np.random.default_rng(1).normal(size=(10_000, seeds))
    rule = claim(0.0)
    words = [evidence.weigh(rule, row).verdict for row in draws]
    share, contradicted = words.count("reproduced") / 10_000, words.count("contradicted") / 10_000
    error = 3 * np.sqrt(0.025 * 0.975 / 10_000)
    assert share < 0.025 + error
    assert share > 0.025 - error  # the rule is not needlessly strict either
    assert contradicted < 0.025 + error


def test_an_effect_at_the_margin_is_called_reproduced_in_at_most_two_and_a_half_percent():
    draws = 0.5 + np.random.default_rng(2).normal(size=(10_000, 6))
    rule = claim(0.5)
    share = sum(evidence.weigh(rule, row).verdict == "reproduced" for row in draws) / 10_000
    assert share < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 10_000)


def test_exact_mathematics_has_an_interval_of_no_width():
    finding = evidence.weigh(claim(0.0), [3e-6] * 5)
    assert finding.low == finding.high == pytest.approx(3e-6)
    assert finding.verdict == "reproduced"


def test_one_seed_gives_no_verdict_and_four_are_too_few():
    with pytest.raises(ValueError, match="One seed gives no interval"):
        evidence.interval([1.0])
    with pytest.raises(ValueError, match="at least 5 seeds"):
        evidence.weigh(claim(), [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_effects_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        evidence.weigh(claim(), [1.0, bad, 1.0, 1.0, 1.0])


def test_effects_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        evidence.weigh(claim(), torch.ones(5, 2))


def test_a_claim_out_of_reach_takes_no_effects():
    out = next(c for c in find_card("lottery-ticket").claims if c.out_of_reach)
    with pytest.raises(ValueError, match="out of reach"):
        evidence.weigh(out, [1.0] * 5)


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run():
    return begin("lottery-ticket", device="cpu")


def test_seeds_count_up_from_the_first(run):
    assert run.seeds == [100, 101, 102, 103, 104]


def test_a_run_refuses_unknown_claims_wrong_lengths_and_second_weighings(run):
    with pytest.raises(RepriseError, match="no claim 'nonsense'"):
        run.weigh("nonsense", [1.0] * 5)
    with pytest.raises(RepriseError, match="6 effects for 5 seeds"):
        run.weigh("tickets-match-dense", [1.0] * 6)
    with pytest.raises(RepriseError, match="not finite"):
        run.weigh("tickets-match-dense", [float("nan")] * 5)
    run.weigh("tickets-match-dense", torch.ones(5))
    with pytest.raises(RepriseError, match="weighed already"):
        run.weigh("tickets-match-dense", torch.ones(5))


def test_a_quick_run_cannot_decide_a_claim_of_the_full_profile(run):
    with pytest.raises(RepriseError, match="full profile only"):
        run.weigh("lenet-mnist-images", [1.0] * 5)


def test_evidence_names_the_claims_that_were_not_weighed(run):
    run.weigh("tickets-match-dense", [1.0] * 5)
    with pytest.raises(RepriseError, match="tickets-learn-faster"):
        run.evidence()


def test_the_evidence_bundle_holds_the_record_and_a_table(run):
    for c in run.card.claims:
        if c.is_decidable_at("quick"):
            run.weigh(c.id, [1.0, 1.1, 0.9, 1.0, 1.05])
    bundle = run.evidence()._repr_mimebundle_()
    record = bundle[evidence.MIME]
    assert [entry["claim"] for entry in record["evidence"]] == list(run.findings)
    assert record["first_seed"] == 100
    assert record["machine"]["threads"] == 1
    for c in run.card.claims:
        assert f'id="claim-{c.id}"' in bundle["text/html"]
    assert "out of reach" in bundle["text/html"]
    assert "decided by the full run" in bundle["text/html"]


def test_kept_curves_survive_the_packing_and_are_limited():
    packed = evidence.pack_curves({"loss": np.arange(5.0)})
    with np.load(io.BytesIO(base64.b64decode(packed)), allow_pickle=False) as kept:
        assert kept["loss"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="keep fewer points"):
        evidence.pack_curves({"noise": np.random.default_rng(0).normal(size=100_000)})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"profile": "quik"}, "no profile 'quik': use one of quick, full"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"first_seed": -1}, "first_seed"),
        ({"num_seeds": 4}, "at least 5"),
    ],
)
def test_begin_says_which_argument_would_do(argument, message):
    with pytest.raises(RepriseError, match=message):
        begin("lottery-ticket", **argument)


def test_cuda_without_a_gpu_says_what_to_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RepriseError, match='use "auto" or "cpu"'):
        begin("lottery-ticket", device="cuda")
