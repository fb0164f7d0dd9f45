"""What the pages say of tasks and reports, in the reader's language: facts in, sentences out. No markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from instances.accounts import Account, Because
from instances.lifecycle import RUNNING, TIMEOUT, AttemptSummary
from instances.node import Frozen
from instances.pieces import Piece, Sentence, at, fill, listed
from instances.reasons import Cause, Reason
from instances.waiting import By, Plan, Waiting
from tower.definitions.words import span as span_of_seconds
from tower.marks import WORDS, count, span
from tower.schemas import STATUSES, Join, JoinPolicy


def status_name(status: int) -> str:
    """As the contract writes it; the pages say the word of it elsewhere."""
    return STATUSES[status].value


# -- joins


@dataclass(frozen=True, slots=True)
class Named:
    """The first few that something waits for: (id, title), and how many more there are."""

    tasks: Sequence[tuple[str, str]] = ()
    more: int = 0


NOBODY = Named()


def waiting(facts: Waiting, *, names: Named = NOBODY, missing: Named = NOBODY, quiet_ms: int | None = None,
            ready: Frozen | None = None, late: int = 0) -> list[Sentence]:  # fmt: skip
    """``names``: of those that have not ended; ``missing``: of those that nobody has heard of."""
    if facts.by is By.ACTOR:
        return [_beside(facts)]
    found = [_ended(facts, ready) if facts.over else _open(facts, names, quiet_ms)]
    if not facts.over:
        found += _foreseen(facts)
    found += _plan(facts, missing)
    if late:
        said = ngettext(
            "{n} ending came later; it changes nothing.",
            "{n} endings came later; they change nothing.",
            late,
        )
        found.append(fill(said, n=count(late)))
    return found


def _beside(facts: Waiting) -> Sentence:
    if not facts.tally.total:
        return fill(_("{n} children are planned; how it ends, its own actor says."), n=count(facts.of))
    done, of = count(facts.tally.ended), count(facts.of)
    if facts.over:
        return fill(
            _("Its children did not decide how it ended; {done} of {of} have ended."), done=done, of=of
        )
    return fill(
        _("It ends when its own actor says so; {done} of {of} children have ended."), done=done, of=of
    )


def _open(facts: Waiting, names: Named, quiet_ms: int | None) -> Sentence:
    if facts.quiet:
        return _quiet(facts, quiet_ms)
    patterns = {
        By.CHILDREN: _("Waiting for {n} of {of} children{rule}{names}."),
        By.AGGREGATORS: _("Waiting for {n} of {of} aggregators, which speak for the other children{names}."),
        By.COLLECTED: _("Collecting, waiting for {n} of {of}{rule}{names}."),
    }
    return fill(
        patterns[facts.by],
        n=count(facts.waits_for),
        of=count(facts.of),
        # What cannot be met is said in a sentence of its own.
        rule="" if facts.broken and facts.tally.ended else f": {rule(facts)}",
        names=_names(names),
    )


def _quiet(facts: Waiting, quiet_ms: int | None) -> Sentence:
    said = _("All {n} have ended. Nothing was planned, so it waits a little for another one{until}.")
    until = fill(_(", until {at}"), at=at(quiet_ms)) if quiet_ms is not None else []
    return fill(said, n=count(facts.tally.ended), until=until)


def _names(names: Named) -> Sentence:
    if not names.tasks:
        return []
    links = listed([Piece(title, task_id=id) for id, title in names.tasks])
    if names.more:
        links += fill(_(" and {n} more"), n=count(names.more))
    return fill(_(" ({names})"), names=links)


def policy(join: Join) -> str:
    """at_least 90 % · at_most_failed · any"""
    return f"{join.policy.value} {join.percent:g} %" if join.percent is not None else join.policy.value


def rule(facts: Waiting) -> str:
    """at_least 90 % needs 36, has 35"""
    values = {"policy": policy(facts.join), "need": count(facts.need), "have": count(facts.have)}
    if facts.join.policy is JoinPolicy.ALL_DONE:
        return _("%(policy)s needs them to end, %(have)s have") % values
    if facts.join.policy is JoinPolicy.AT_MOST_FAILED:
        return _("%(policy)s lets %(need)s fail, %(have)s did") % values
    return _("%(policy)s needs %(need)s, has %(have)s") % values


def _ended(facts: Waiting, ready: Frozen | None) -> Sentence:
    if facts.by is By.AGGREGATORS:
        return fill(_("Its {n} aggregators decided how it ended."), n=count(facts.tally.total))
    if facts.by is By.COLLECTED:
        said = ngettext(
            "Ready since {at}: {n} result is frozen, {status} by the join “{policy}”.",
            "Ready since {at}: {n} results are frozen, {status} by the join “{policy}”.",
            facts.tally.total,
        )
        return fill(
            said,
            at=at(ready.at_ms) if ready else "",
            n=count(facts.tally.total),
            status=status_name(ready.verdict) if ready else "",
            policy=policy(facts.join),
        )
    return fill(_("Ended by its {n} children: {rule}."), n=count(facts.tally.total), rule=rule(facts))


def _foreseen(facts: Waiting) -> Iterator[Sentence]:
    """What is sure before the last have ended."""
    if facts.by is By.AGGREGATORS or facts.quiet or not facts.tally.ended:
        return
    if facts.broken:
        said = _(
            "Cannot be met any more: {rule}, {left} are left. It ends without success once all have ended."
        )
        yield fill(said, rule=rule(facts), left=count(facts.waits_for))
    elif facts.met and facts.join.policy is not JoinPolicy.ALL_DONE:
        yield fill(_("Met already; it ends with success once all have ended."))


def _plan(facts: Waiting, missing: Named) -> Iterator[Sentence]:
    if facts.missing and facts.by is By.COLLECTED and missing.tasks:
        here = listed([Piece(id) for id, _title in missing.tasks])
        more = fill(_(" and {n} more"), n=count(missing.more)) if missing.more else []
        yield fill(_("Not heard of yet: {names}{more}."), names=here, more=more)
    elif facts.missing:
        said = ngettext(
            "{n} of them is planned and not registered yet.",
            "{n} of them are planned and not registered yet.",
            facts.missing,
        )
        yield fill(said, n=count(facts.missing))
    elif facts.over or facts.by is By.AGGREGATORS:
        return
    elif facts.plan is Plan.ENDED:
        yield fill(_("Its plan is closed, since its actor reported an ending: no more are waited for."))
    elif facts.plan is Plan.CANCELLED:
        yield fill(_("Its plan was closed by a cancel: no more are waited for."))
    elif facts.plan is Plan.FULL and facts.by is By.CHILDREN:
        yield fill(_("Its plan is closed: all that were planned are here."))
    elif facts.plan is Plan.NONE and not facts.quiet:
        yield fill(_("No number was planned: it ends once all that are here have ended."))


# -- why a status stands


def alike(names: Named) -> list[Sentence]:
    """Who else failed with the same code."""
    if not names.tasks:
        return []
    more = fill(_(" and {n} more"), n=count(names.more)) if names.more else []
    links = listed([Piece(title, task_id=id) for id, title in names.tasks])
    return [fill(_("Also failed with this code: {names}{more}."), names=links, more=more)]


def account(facts: Account, *, timeout_sec: int | None, grace_sec: int | None, join: Join | None) -> Sentence:
    values = {
        "status": status_name(facts.status),
        "reported": "" if facts.reported is None else status_name(facts.reported),
        "attempt": count(facts.attempt),
        "limit": "" if timeout_sec is None else span_of_seconds(timeout_sec),
        "grace": "" if grace_sec is None else span_of_seconds(grace_sec),
        "policy": policy(join) if join else "",
        "at": at(facts.at_ms) if facts.at_ms is not None else "",
        "own": at(facts.own_ms) if facts.own_ms is not None else "",
    }
    return fill(_account(facts), **values)


def _account(facts: Account) -> str:
    match facts.because:
        case Because.UNACKNOWLEDGED if facts.actor_ended:
            return _(
                "The actor says {reported}; the tower had ended it {status} at {at}, because the cancel"
                " was not answered within its grace of {grace}. A forced cancel stays."
            )
        case Because.UNACKNOWLEDGED:
            return _(
                "The tower ended it {status} at {at}:"
                " its actor did not answer the cancel within its grace of {grace}."
            )
        case Because.UNDER_CANCEL if facts.reported is not None:
            return _(
                "The actor says {reported}; the tower had ended it {status} at {at}, because a cancel"
                " stood above it before it began. Its reports change nothing any more."
            )
        case Because.UNDER_CANCEL:
            return _("The tower ended it {status} at {at}: a cancel stood above it before it began.")
        case Because.TIMED_OUT:
            return _(
                "The tower ended attempt {attempt} {status} at {at}: no ending was heard within {limit}."
                " Should its actor's own ending come yet, that stands."
            )
        case Because.TIMEOUT_OVERTAKEN:
            return _(
                "The tower had timed attempt {attempt} out at {at}; its actor's own ending of {own}"
                " was heard after that and stands."
            )
        case Because.ITS_PART if facts.status > RUNNING:
            return _(
                "The actor says {reported} of its own part; by the join “{policy}”"
                " its children made it {status}."
            )
        case Because.ITS_PART:
            return _(
                "The actor says {reported} of its own part; it is {status}, since the join “{policy}” waits"
                " for its children."
            )
        case Because.NOT_OPENED:
            return _(
                "The actor says {reported} in a further attempt, which was not opened: a cancel is in force."
                " {status} of attempt {attempt} stands."
            )
        case Because.DIFFERS:
            return _("The actor says {reported}; the tower shows {status}.")


# -- attempts


def attempt(facts: AttemptSummary) -> str:
    """Failed HTTP_429 after 0:41 on worker w3"""
    words = [str(WORDS[STATUSES[facts.status]])]
    if facts.ending == TIMEOUT:
        words = [_("Timed out by the tower")]
    elif facts.by_tower:
        words = [_("Cancelled by the tower")]
    if facts.error_code and facts.ending != TIMEOUT:
        words.append(facts.error_code)
    if facts.started_ms is not None and facts.finished_ms is not None:
        words.append(_("after %s") % span(max(0, facts.finished_ms - facts.started_ms)))
    if facts.worker:
        words.append(_("on worker %s") % facts.worker)
    return " ".join(words)


def attempt_notes(facts: AttemptSummary) -> list[Sentence]:
    found: list[Sentence] = []
    if facts.timed_out_ms is not None and not facts.by_tower:
        said = _("The tower had timed it out at {at}; its own ending came later and stands.")
        found.append(fill(said, at=at(facts.timed_out_ms)))
    if facts.reported_status is not None and facts.reported_status > RUNNING:
        found.append(fill(_("Its actor says {reported}."), reported=status_name(facts.reported_status)))
    if not facts.counted:
        found.append(fill(_("Not opened, since a cancel was in force: its reports are stale.")))
    return found


def reports(number: int) -> str:
    return ngettext("%s report", "%s reports", number) % count(number)


# -- the log


def reason(facts: Reason | None) -> Sentence:
    if facts is None:
        return []
    stands = at(facts.at_ms) if facts.at_ms is not None else _("an earlier one")
    return fill(_reasons()[facts.cause], at=stands, attempt=count(facts.attempt))


def reason_words() -> dict[str, str]:
    """The same for scripts, which fill in what is in braces."""
    found = {f"reason_{cause.value}": words for cause, words in _reasons().items()}
    return found | {"an_earlier_one": _("an earlier one")}


def _reasons() -> Mapping[Cause, str]:
    return {
        Cause.OLDER_ATTEMPT: _("of an older attempt: attempt {attempt} stands"),
        Cause.ATTEMPT_NOT_OPENED: _("no attempt above {attempt} is opened, since a cancel is in force"),
        Cause.OLDER: _("older than what stands"),
        Cause.AFTER_ENDING: _("made after the ending of {at}"),
        Cause.OTHER_ENDING: _("the ending of {at} stands"),
        Cause.OVERTAKEN: _("it stood, until the earlier ending of {at} came"),
        Cause.FORCED: _("the tower had ended the task at {at}; it only says what the actor thinks"),
        Cause.NO_PARENT: _("counted; nobody had named its parent then"),
        Cause.TIMED_OUT: _("no ending was heard within the time limit"),
        Cause.TIMEOUT_OVERTAKEN: _("the actor's own ending of {at} stands instead"),
        Cause.UNACKNOWLEDGED: _("the cancel was not answered within its grace"),
        Cause.UNDER_CANCEL: _("a cancel stood above it before it began"),
    }


def skew(ms: int) -> str:
    """How far an actor's clock, the way included, is from the server's: +3.2 s, -4:12."""
    sign = "+" if ms > 0 else "−"
    size = abs(ms)
    return sign + (_("%(age)s s") % {"age": f"{size / 1000:.1f}"} if size < 60_000 else span(size))
