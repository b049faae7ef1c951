"""`verify` and `audit`: what counts as a change, and what fails."""

import copy
import json

import nbformat
import pytest

from reprise.suite import audit
from reprise.suite.catalogue import find_card
from reprise.suite.evidence import entries, weigh
from reprise.suite.house import House

CARD = find_card("lottery-ticket")


def record(effects, processor="a", torch="2.13.0"):
    """A record in which every quick claim has these effects, shifted by its margin."""
    claims = [c for c in CARD.claims if c.profile == "quick"]
    return {
        "slug": CARD.slug,
        "device": "CPU, 1 thread",
        "machine": {"processor": processor, "threads": 1, "system": "Linux"},
        "versions": {"torch": torch},
        "evidence": entries([weigh(c, [c.margin + e for e in effects]) for c in claims]),
    }


GOOD, BAD, VAGUE = [1, 1.1, 0.9, 1, 1], [-9, -9.1, -8.9, -9, -9], [9, -9, 8, -8, 0]


def with_claim(base, number, effects):
    changed = copy.deepcopy(base)
    changed["evidence"][number] = record(effects)["evidence"][number]
    return changed


@pytest.fixture
def judge(tmp_path):
    """Compare a committed record with a new one through files, as the commands do."""

    def _judge(rule, before, after):
        house, folder = House(tmp_path), tmp_path / "again"
        folder.mkdir(exist_ok=True)
        committed = house.notebook(CARD.part, CARD.slug)
        committed.parent.mkdir(parents=True, exist_ok=True)
        for path, content in ((committed, before), (folder / f"{CARD.slug}.ipynb", after)):
            notebook = nbformat.v4.new_notebook(metadata={"reprise": json.loads(json.dumps(content))})
            nbformat.write(notebook, path)
        return rule([CARD], house, folder)

    return _judge


def test_equal_records_pass(judge):
    lines, is_good = judge(audit.verify, record(GOOD), record(GOOD))
    assert is_good
    assert lines == ["lottery-ticket: effects equal"]


def test_other_effects_on_the_same_machine_fail(judge):
    shifted = [e + 1e-4 for e in GOOD]
    lines, is_good = judge(audit.verify, record(GOOD), record(shifted))
    assert not is_good
    assert any("differ by up to" in line for line in lines)


def test_other_effects_on_another_machine_pass_while_verdicts_stand(judge):
    shifted = [e + 1e-2 for e in GOOD]
    lines, is_good = judge(audit.verify, record(GOOD), record(shifted, processor="b"))
    assert is_good
    assert lines == ["lottery-ticket: verdicts equal (another machine than the record's)"]


def test_rounding_below_one_millionth_is_no_change():
    assert audit.compare(CARD, record(GOOD), record([e + 1e-9 for e in GOOD])) == []


def test_an_opposite_verdict_fails_everywhere(judge):
    lines, is_good = judge(audit.verify, record(GOOD), with_claim(record(GOOD, processor="b"), 0, BAD))
    assert not is_good
    assert any("reproduced -> contradicted" in line for line in lines)


def test_more_than_one_verdict_in_twenty_fails_on_another_machine(judge):
    lines, is_good = judge(audit.verify, record(GOOD), with_claim(record(GOOD, processor="b"), 0, VAGUE))
    assert not is_good
    assert "1 of 6 verdicts changed: more than one in twenty." in lines


def test_audit_lets_effects_move_but_no_reproduced_verdict_fall(judge):
    assert judge(audit.audit, record(GOOD), record([e + 0.05 for e in GOOD]))[1]
    lines, is_good = judge(audit.audit, record(GOOD), with_claim(record(GOOD), 2, VAGUE))
    assert not is_good
    assert any("reproduced -> inconclusive" in line for line in lines)
    assert judge(audit.audit, with_claim(record(GOOD), 2, VAGUE), record(GOOD))[1]


def test_effects_made_of_wall_clock_times_may_move_but_not_turn_around(judge):
    def timed(base):
        base = copy.deepcopy(base)
        base["evidence"][0]["is_timed"] = True
        return base

    lines, is_good = judge(audit.verify, timed(record(GOOD)), timed(with_claim(record(GOOD), 0, VAGUE)))
    assert is_good
    assert any("reproduced -> inconclusive" in line for line in lines)
    assert not judge(audit.verify, timed(record(GOOD)), timed(with_claim(record(GOOD), 0, BAD)))[1]


@pytest.mark.parametrize(("field", "value"), [("torch", "2.14.0"), ("processor", "b")])
def test_the_same_machine_means_processor_threads_and_torch(field, value):
    assert audit.is_same_machine(record(GOOD), record(GOOD))
    assert not audit.is_same_machine(record(GOOD), record(GOOD, **{field: value}))
