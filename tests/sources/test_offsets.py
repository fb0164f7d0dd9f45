"""What is known of one partition: what is done, and how often the rest was handed out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from instances.sources import Entry
from instances.sources.offsets import NOTE_CHARACTERS, Offsets, handed_out


def came(*offsets: int, start: int | None = 0, note: str = "") -> Offsets:
    made = Offsets(start, note)
    for offset in offsets:
        made.add(offset, Entry(f"0-{offset}", b"x", 0))
    return made


def told(offsets: Offsets) -> tuple[int | None, str]:
    return offsets.low, offsets.note


def test_where_nothing_came_and_nothing_is_known_there_is_no_lowest():
    assert told(Offsets()) == (None, "")


def test_the_lowest_is_the_first_that_is_not_done():
    share = came(5, 6, 7, start=5)

    share.finish(6)
    assert share.low == 5
    share.finish(5)
    assert share.low == 7
    share.finish(7)
    assert share.low == 8


def test_gaps_hold_nothing_up():
    share = came(5, 9, start=3)

    share.finish(5)

    assert share.low == 9


def test_what_is_handed_out_is_noted_and_what_is_done_is_not_any_more():
    share = came(0, 1, 2)

    share.take([0, 1])
    assert share.note == "1;2:1"
    share.finish(0)
    assert share.note == "1;1:1"
    share.finish(1)
    assert share.note == ""


def test_what_is_given_back_was_not_handed_out():
    share = came(0, 1, 2, 3)
    share.take([0, 1, 2, 3])
    share.finish(0)
    share.finish(2)

    share.give_back([1, 3])

    assert told(share) == (1, "")
    assert list(share.waiting(0.0)) == [1, 3]


def test_the_next_reader_goes_on_counting():
    share = came(10, 11, 12, start=10, note="1;2:3")
    assert [share.tries(offset) for offset in (10, 11, 12)] == [3, 3, 0]

    share.take([10])

    assert share.note == "1;1:4,2:3"
    assert [share.tries(offset) for offset in (10, 11, 12)] == [4, 3, 0]


def test_what_lies_aside_is_not_waiting_until_its_time():
    share = came(0, 1)
    share.take([0])

    share.give_back([0], until=5.0)

    assert list(share.waiting(4.0)) == [1]
    assert list(share.waiting(5.0)) == [0, 1]


def test_what_is_not_known_is_not_finished_and_not_given_back():
    share = came(1)

    share.finish(7)
    share.give_back([1, 7])

    assert told(share) == (1, "")
    assert share.bytes == 1


def test_a_note_in_another_form_counts_as_never_handed_out():
    for note in ("", "hello", "1;", "1;x:y", "2;5:1", "1;5", "1;-5:1", "1;٣:1"):
        assert told(Offsets(3, note)) == (3, ""), note


def test_a_long_note_is_cut_at_a_whole_run():
    share = came(*range(4_000))

    share.take(range(0, 4_000, 2))

    assert NOTE_CHARACTERS - 10 < len(share.note) <= NOTE_CHARACTERS
    assert Offsets(0, share.note).note == share.note


def test_behind_what_was_handed_out_nobody_has_anything_in_hand():
    assert handed_out(10, "") == 10
    assert handed_out(10, "1;2:3,5:1,9:0") == 15


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(1, 6)), max_size=12))
def test_it_counts_as_a_plain_list_does(deeds: list[tuple[bool, int, int]]) -> None:
    share = came(*range(20))
    plain = [0] * 20
    for takes, first, count in deeds:
        offsets = list(range(first, first + count))
        if takes:
            share.take(offsets)
        else:
            offsets = [offset for offset in offsets if offset in share.in_hand]
            share.give_back(offsets)
        for offset in offsets:
            plain[offset] = max(0, plain[offset] + (1 if takes else -1))

    assert [share.tries(offset) for offset in range(20)] == plain
    again = Offsets(0, share.note)
    assert [again.tries(offset) for offset in range(20)] == plain
