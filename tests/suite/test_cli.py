"""The command line: one sentence with the remedy for whatever a person may get wrong; `new` and `check`."""

import pytest
from tiny import chapter, make_house

from reprise.suite.catalogue import find_card
from reprise.suite.cli import main
from reprise.suite.house import House
from reprise.suite.structure import missing


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_ROOT", str(tmp_path))
    return make_house(tmp_path, {"tiny-a": chapter("tiny-a")})


def fails(capsys, *arguments):
    assert main(list(arguments)) == 1
    message = capsys.readouterr().err
    assert message.startswith("reprise: ")
    assert "Traceback" not in message
    return message


def test_an_unknown_slug_is_answered_with_the_nearest(made, capsys):
    assert "did you mean 'tiny-a'" in fails(capsys, "run", "tinny-a")
    assert "did you mean 'tiny-a'" in fails(capsys, "evidence", "tiny_a")


def test_an_unknown_profile_is_answered_with_those_there_are(made, capsys):
    assert "use one of quick, full" in fails(capsys, "run", "--profile", "huge")


def test_a_full_run_of_everything_must_be_named(made, capsys):
    assert "Name the chapters" in fails(capsys, "run", "--profile", "full")


def test_other_seeds_never_reach_the_record(made, capsys):
    assert "--scratch" in fails(capsys, "run", "--first-seed", "7")
    assert "0 to 99 were used for tuning" in fails(capsys, "audit", "--first-seed", "7")


def test_outside_a_clone_a_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRISE_ROOT", str(tmp_path))
    assert "run this inside a clone" in fails(capsys, "status")


def test_a_chapter_without_evidence_is_told_how_to_get_some(made, capsys):
    assert "`reprise run tiny-a` makes one" in fails(capsys, "evidence", "tiny-a")
    assert "`reprise run` makes it" in fails(capsys, "verify")


def test_list_shows_what_is_written(made, capsys):
    assert main(["list"]) == 0
    assert "● tiny-a" in capsys.readouterr().out


def test_status_counts_what_has_to_be_run(made, capsys):
    assert main(["status"]) == 1
    assert "1 of 1 chapters need `reprise run`" in capsys.readouterr().out


def new_paper(house, slug="bright-idea"):
    """A paper that is new to the catalogue, its card filled in, the other files laid out from it."""
    assert main(["new", slug, "--part", "memory"]) == 0
    path = house.card("memory", slug)
    path.write_text(path.read_text().replace("TODO", "Done:"))
    assert main(["new", slug]) == 0
    return find_card(slug, house)


def test_the_card_comes_before_the_files_that_are_made_from_it(made, capsys):
    assert main(["new", "bright-idea", "--part", "memory"]) == 0
    assert "fill in the card, then `reprise new bright-idea`" in capsys.readouterr().out
    assert not made.source("memory", "bright-idea").exists()
    assert "A TODO is left in the card" in fails(capsys, "new", "bright-idea")


def test_new_lays_out_the_files_and_check_says_what_to_do(made, capsys):
    house = House(made.root)
    card = new_paper(house)
    for path in (house.module("memory", card.slug), house.test("memory", card.slug), house.source("memory", card.slug)):
        assert path.is_file()
    capsys.readouterr()
    assert main(["check", "bright-idea"]) == 1
    said = capsys.readouterr().out
    for lack in ("a TODO is left in the source", "main-claim is never weighed", "no cell calls `show(`", "0 tests"):
        assert lack in said, "a TODO in a comment does not count as done"
    untouched = house.module("memory", card.slug)
    untouched.write_text("mine")
    main(["new", "bright-idea"])
    assert untouched.read_text() == "mine"


def test_new_wants_a_part_for_a_paper_that_has_no_card(made, capsys):
    assert "--part" in fails(capsys, "new", "bright-idea")
    assert "choose one of" in fails(capsys, "new", "bright-idea", "--part", "cooking")


def test_a_skeleton_whose_todos_are_filled_is_complete(made):
    """What `reprise new` lays out passes the structural checks once a person has written the missing pieces."""
    house = House(made.root)
    card = new_paper(house)
    source = house.source("memory", card.slug)
    filled = {
        "# TODO explore(draw, alt=..., name=[...]) or plots.picture(fig, alt=..., caption=...)": (
            "explore(draw, alt='a', x=[1])\nplots.picture(fig, alt='a', caption='b')"
        ),
        "# TODO show(bright_idea.…)": "show(bright_idea.f)",
        '# TODO run.weigh("main-claim", …)': 'run.weigh("main-claim", effects)',
    }
    text = source.read_text()
    for old, new in filled.items():
        assert old in text, old
        text = text.replace(old, new)
    source.write_text(text.replace("TODO", "Done:"))
    for path in (house.card("memory", card.slug), house.module("memory", card.slug)):
        path.write_text(path.read_text().replace("TODO", "Done"))
    tests = "\n\n".join(f"def test_truth_{i}():\n    assert {i} < 3" for i in range(3))
    house.test("memory", card.slug).write_text(tests)
    assert missing(house, find_card("bright-idea", house)) == []
