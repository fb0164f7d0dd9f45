"""What may be asked of a place: the contract's table, over the whole product."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from controls.policy import Decision, Outcome, Place, accepts, decide
from instances.intents import InForce
from tower.schemas import ACTIONS, ControlAction

RUN, PAUSE, CANCEL = ControlAction
ANYTHING = (None, RUN, PAUSE, CANCEL)

#: Each thing that may stand on the whole tree, the root, a parent and the task itself.
EVERYWHERE = [
    (action, is_open, stands)
    for action in ControlAction
    for is_open in (True, False)
    for stands in itertools.product(ANYTHING, repeat=4)
]
PATH = ("", "root", "parent", "task")


def a_place(is_open, stands, path=PATH):
    intents = {
        target: InForce(target, ACTIONS.index(what), number=1, control_id="c")
        for target, what in zip(path, stands, strict=True)
        if what
    }
    return Place(is_open, path[1:], intents)


def asked(action, is_open, stands):
    return decide(action, a_place(is_open, stands))


def as_the_contract_says(action, is_open, stands):
    """The table of contract section 5, read row by row and not as the code does."""
    if action is CANCEL:
        return Outcome.TAKEN if is_open else Outcome.ALREADY_ENDED
    if action is PAUSE:
        if not is_open:
            return Outcome.ALREADY_ENDED
        return Outcome.CANCELLED if CANCEL in stands else Outcome.TAKEN
    if CANCEL in stands:
        return Outcome.CANCELLED
    return Outcome.TAKEN if stands[-1] is PAUSE else Outcome.NOT_PAUSED_HERE


def test_every_question_has_the_contracts_answer():
    wrong = [case for case in EVERYWHERE if asked(*case).outcome is not as_the_contract_says(*case)]

    assert len(EVERYWHERE) == 3 * 2 * 4**4
    assert wrong == []


def test_only_a_run_where_nobody_paused_names_who_holds():
    for case in EVERYWHERE:
        decision = asked(*case)
        if decision.outcome is not Outcome.NOT_PAUSED_HERE:
            assert decision.held_by is None
            continue
        holding = [place for place, what in zip(PATH[:-1], case[2][:-1], strict=True) if what is PAUSE]
        assert decision.held_by == ((holding[-1] or "global_action") if holding else None)


@pytest.mark.parametrize(
    ("stands", "held_by"),
    [
        ((PAUSE, None, None, None), "global_action"),
        ((PAUSE, PAUSE, None, RUN), "root"),
        ((PAUSE, RUN, None, None), "global_action"),
        ((RUN, RUN, RUN, RUN), None),
    ],
)
def test_b54_a_run_held_from_above_names_the_nearest_holder(stands, held_by):
    assert asked(RUN, True, stands) == Decision(Outcome.NOT_PAUSED_HERE, held_by)


def test_the_whole_tree_has_no_ancestor_that_could_hold_it():
    assert decide(RUN, a_place(True, [None], [""])) == Decision(Outcome.NOT_PAUSED_HERE, None)
    assert decide(RUN, a_place(True, [PAUSE], [""])) == Decision(Outcome.TAKEN)


def test_a_button_offers_what_would_be_taken():
    assert accepts(a_place(True, [None, None, None, None])) == [PAUSE, CANCEL]
    assert accepts(a_place(True, [None, None, None, PAUSE])) == [RUN, PAUSE, CANCEL]
    assert accepts(a_place(True, [CANCEL, None, None, PAUSE])) == [CANCEL]
    assert accepts(a_place(False, [None, None, None, None])) == []


@pytest.mark.parametrize("action", list(ControlAction))
def test_b52_a_place_that_is_not_there_is_not_found(action):
    assert decide(action, None) == Decision(Outcome.NOT_FOUND)


def test_the_policy_loads_without_a_framework():
    code = "import sys, controls.policy; print(*sorted({'django', 'redis', 'channels'} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []
