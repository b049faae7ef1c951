"""What a graded cell accepts: the same numbers, however they are held; and no number that is missing or wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reprise.suite.chapter import say
from reprise.suite.grading import check_agreement, check_numbers, numbers, references


def values(report):
    return [value for value, _ in numbers(report)]


def test_numbers_are_read_from_text_and_from_values_alike():
    sentence = say("From 0.71 to -1.5e-3, 85 % of 10,000; nan.")
    assert values(sentence) == pytest.approx([0.71, -1.5e-3, 85, 10_000, math.nan], nan_ok=True)
    assert values({"a": torch.tensor([1.0, 2.0]), 7: [3, (True, 4.5)]}) == [1, 2, 3, 1, 4.5]
    assert values(torch.tensor(2)) == [2]
    assert values("layer2 t90 x") == []


def test_words_that_hold_inf_or_nan_are_no_numbers():
    assert values("information about nanoseconds") == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_a_report_agrees_with_itself_and_with_its_printed_form(found):
    check_agreement(found, found)
    check_agreement("; ".join(f"{x:.3f}" for x in found), "; ".join(f"{x:.3f}" for x in found))


@pytest.mark.parametrize(
    ("report", "reference"),
    [("0.712", "0.711"), ([100.0], [104.0]), ("ends at 49 %", "ends at 50 %"), ("-0.0203", "-0.0204")],
)
def test_the_last_digit_and_a_few_percent_are_forgiven(report, reference):
    check_agreement(report, reference)


@pytest.mark.parametrize(
    ("report", "reference", "why"),
    [
        ([100.0], [106.0], "100 is not 106"),
        ("0.5 and 2", "0.5 and -2", "1 of 2 numbers differ"),
        ("0.5", "0.5 and 2", "holds 1 numbers, the reference 2"),
        ([float("nan")], [1.0], "nan is not 1"),
    ],
)
def test_other_numbers_are_refused(report, reference, why):
    with pytest.raises(AssertionError, match=why):
        check_agreement(report, reference)


@pytest.mark.parametrize("report", ["no number at all", [1.0, float("inf")], say("loss nan"), None, []])
def test_a_report_without_finite_numbers_is_refused(report):
    with pytest.raises(AssertionError):
        check_numbers(report)


def test_references_build_on_one_another_and_leave_the_namespace_alone():
    namespace = {"x": 2}
    found = references(namespace, {"a": ("y = x + 1", "y"), "b": ("z = [y, x]", ""), "c": ("w = z + [9]", "w")})
    assert found == {"a": 3, "b": None, "c": [3, 2, 9]}
    assert set(namespace) == {"x"}


def test_a_reference_that_fails_is_no_fault_of_the_student():
    found = references({}, {"a": ("1 / 0", "1"), "b": ("y = 1", "y")})
    assert found["b"] == 1
    with pytest.raises(AssertionError, match="grade this by hand"):
        check_agreement([1.0], found["a"])
