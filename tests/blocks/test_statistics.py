"""Comparisons of per-seed numbers."""

import numpy as np
import pytest
from scipy import stats

from reprise.blocks.statistics import bootstrap_interval, equivalence_test, paired_differences


def test_pairs_must_match_and_be_finite():
    assert paired_differences([3, 4], [1, 1]).tolist() == [2, 3]
    with pytest.raises(ValueError, match="same shape"):
        paired_differences([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        paired_differences([1, np.nan], [1, 2])


def test_equivalence_is_two_t_tests_of_which_both_must_reject():
    d = np.random.default_rng(0).normal(0.2, 1, 12)
    result = equivalence_test(d, 1.0)
    below = stats.ttest_1samp(d, -1.0, alternative="greater").pvalue
    above = stats.ttest_1samp(d, 1.0, alternative="less").pvalue
    assert result.p_value == pytest.approx(max(below, above))
    assert result.equivalent == (result.low > -1 and result.high < 1)


def test_equivalence_is_declared_too_often_in_at_most_five_percent_at_the_margin():
    draws = np.random.default_rng(1).normal(1.0, 0.3, (3000, 6))
    assert np.mean([equivalence_test(d, 1.0).equivalent for d in draws]) < 0.06


def test_identical_differences_are_decided_by_their_value():
    assert equivalence_test([0.5, 0.5], 1.0).equivalent
    assert not equivalence_test([1.5, 1.5], 1.0).equivalent
    with pytest.raises(ValueError, match="two differences"):
        equivalence_test([1.0], 1.0)


def test_bootstrap_of_the_mean_matches_its_standard_error():
    values = np.random.default_rng(2).normal(3, 2, (400, 2))
    low, high = bootstrap_interval(values)
    assert low.shape == (2,)
    half = 1.96 * values.std(0) / np.sqrt(400)
    np.testing.assert_allclose(high - low, 2 * half, rtol=0.08)
    assert ((low < values.mean(0)) & (values.mean(0) < high)).all()
    with pytest.raises(ValueError, match="two seeds"):
        bootstrap_interval([1.0])
