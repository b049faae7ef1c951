"""What the test cells of an exported assignment call: is a report made of numbers, do they agree with the reference?

A report is what an exercise's solution displays last: a sentence by `say(...)`, or values. Two reports agree when they
hold the same numbers, whatever the shapes and names of the variables behind them.
"""

import math
import re
from decimal import Decimal

TOLERANCE = 0.05  # relative; other threads and processors move the last digits of what was trained
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|nan|inf)(?![a-z])", re.IGNORECASE)


def numbers(report) -> list[tuple[float, float]]:
    """Every number in a report, each with the size of its last digit as printed (0 where it is not text).

    Reads text, Markdown, numbers, tensors, arrays, and lists, tuples and dictionaries (their values) of these.
    """
    if hasattr(report, "tolist"):
        report = report.tolist()
    if isinstance(getattr(report, "data", None), str):  # Markdown
        report = report.data
    if isinstance(report, str):
        return [_read(text.replace(",", "")) for text in _NUMBER.findall(report)]
    if isinstance(report, (int, float)):
        return [(float(report), 0.0)]
    if isinstance(report, dict):
        report = list(report.values())
    if isinstance(report, (list, tuple)):
        return [number for item in report for number in numbers(item)]
    return []


def _read(text: str) -> tuple[float, float]:
    value = float(text)
    return value, float(Decimal(1).scaleb(Decimal(text).as_tuple().exponent)) if math.isfinite(value) else 0.0


def check_numbers(report) -> None:
    """Raises AssertionError where a report holds no number, or one that is not finite."""
    found = [value for value, _ in numbers(report)]
    assert found, "the report holds no number"
    assert all(map(math.isfinite, found)), f"the report holds numbers that are not finite: {found}"


def references(namespace: dict, exercises: dict[str, tuple[str, str]]) -> dict:
    """Run the reference solutions one after the other in a copy of a namespace; the report of each, by label.

    A solution that fails leaves its exception in place of a report, so that the fault is not the student's.

    Args:
        exercises: code and the expression that reports, by label.
    """
    copy, reports = dict(namespace), {}
    for label, (code, expression) in exercises.items():
        try:
            exec(code, copy)
            reports[label] = eval(expression, copy) if expression else None
        except Exception as error:
            reports[label] = error
    return reports


def check_agreement(report, reference, tolerance: float = TOLERANCE) -> None:
    """Raises AssertionError where two reports do not hold the same numbers.

    Numbers agree when they differ by at most `tolerance` of the larger one, or by one in the last digit printed.
    """
    assert not isinstance(reference, Exception), f"the reference solution failed ({reference!r}): grade this by hand"
    ours, theirs = numbers(report), numbers(reference)
    assert len(ours) == len(theirs), f"the report holds {len(ours)} numbers, the reference {len(theirs)}"
    different = [
        f"{a:g} is not {b:g}"
        for (a, step), (b, other) in zip(ours, theirs)
        if not abs(a - b) <= max(tolerance * max(abs(a), abs(b)), 1.001 * max(step, other), 1e-9)
    ]
    assert not different, f"{len(different)} of {len(ours)} numbers differ from the reference: {'; '.join(different)}"
