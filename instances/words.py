"""The words that the scripts of the trace page speak, in the reader's language. No markup.

``{name}`` is filled in by the browser; of a pair ``x_1`` / ``x_n`` it takes the one that fits the number.
"""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from instances.lifecycle import Verdict
from tower.marks import WORDS

TABS = (
    ("overview", gettext_lazy("Overview")),
    ("join", gettext_lazy("Join")),
    ("parameters", gettext_lazy("Parameters")),
    ("output", gettext_lazy("Output")),
    ("error", gettext_lazy("Error")),
    ("events", gettext_lazy("Events")),
    ("controls", gettext_lazy("Controls")),
)

#: What became of a report, for readers; nothing is said where it simply counted.
VERDICTS = {
    Verdict.APPLIED: "",
    Verdict.STALE: gettext_lazy("stale"),
    Verdict.LATE: gettext_lazy("late"),
    Verdict.CONFLICT: gettext_lazy("conflict"),
    Verdict.UNATTACHED: gettext_lazy("unattached"),
}


def words() -> dict[str, str]:
    status = {f"status_{key.value}": str(word) for key, word in WORDS.items()}
    verdicts = {f"verdict_{key.name.lower()}": str(word) for key, word in VERDICTS.items()}
    return status | verdicts | said()


def said() -> dict[str, str]:
    return {
        "tally": _("{n} {word}"),
        "and": _(", "),
        "attempt": _("attempt {n}"),
        "pause_asked": _("pause asked"),
        "cancel_asked": _("cancel asked"),
        "reported": _("reported {status}"),
        "row_done": _("{done} of {all} below ended"),
        "row_failed": _("{n} failed"),
        "planned": _("{n} planned"),
        "running_for": _("running for"),
        "took": _("took"),
        "not_started": _("not started yet"),
        "title_failed": _("{n} failed"),
        "tasks_1": ngettext("task", "tasks", 1),
        "tasks_n": ngettext("task", "tasks", 2),
        "group_1": _("{n} task of this name"),
        "group_n": _("{n} tasks of this name"),
        "fails_below": _("{n} failed below: go to the first"),
        # notices
        "pausing": _("Pausing {name}"),
        "pausing_run": _("Pausing the run"),
        "is_paused": _("Paused {name}"),
        "is_paused_run": _("Paused the run"),
        "cancelling": _("Cancelling {name}"),
        "cancelling_run": _("Cancelling the run"),
        "hold": _("{holding} of {acting} hold"),
        "hold_none": _("nothing runs; what is pending waits"),
        "still_runs_1": _("{n} task still runs"),
        "still_runs_n": _("{n} tasks still run"),
        "asked_by": _("asked by {name} at {time}"),
        "undelivered": _("not delivered yet: Redis is away"),
        # the pane
        "held_by": _("Held by the pause of {name}."),
        "cancelled_by": _("Cancelled by what was asked of {name}."),
        "whole_run": _("the whole run"),
        "no_parent": _("No report has named its parent yet."),
        "not_registered": _("It has not been registered: all that is known of it comes from reports."),
        "children": _("{ended} of {all} ended"),
        "by_tower": _("by the tower"),
        "said_at": _("its own clock said {time}"),
        "attempt_word": _("Attempt {n}"),
        "left_out": _("{n} older attempts are not shown."),
        "clock": _("clock {skew}"),
        "result_late": _("late"),
        "loose_1": _("{n} task hangs nowhere yet"),
        "loose_n": _("{n} tasks hang nowhere yet"),
        "loose_more": _("and {n} more"),
        "loading": _("Loading…"),
        "not_loaded": _("Could not be loaded. It is tried again when something changes."),
        "link_copied": _("Link copied"),
        "link_copied_without": _("Link copied. Too much is open for a link: it leaves the folds out."),
        "copied": _("Copied"),
        "copy": _("Copy"),
        # JSON
        "json_show": _("Show"),
        "json_size": _("{n} characters of JSON."),
        "json_letters": _("{n} characters, show all"),
        "json_more": _("{n} more"),
        "json_keys_1": _("{n} key"),
        "json_keys_n": _("{n} keys"),
        "json_items_1": _("{n} item"),
        "json_items_n": _("{n} items"),
        "json_hit": _("{n} of {all}"),
        "json_no_hit": _("no match"),
        "host": _("leads to {host}"),
        "pane_wide": _("{n} pixels wide"),
        "pane_high": _("{n} pixels high"),
        "delivered": _("delivered"),
        "refused": _("refused: {code}"),
        "RUN": _("Resume"),
        "PAUSE": _("Pause"),
        "CANCEL": _("Cancel"),
        "ask_again": _("Ask again"),
        "cancel_dots": _("Cancel…"),
        # controls
        "paused_1": _("Pause requested for {n} task"),
        "paused_n": _("Pause requested for {n} tasks"),
        "resumed": _("Resume requested"),
        "cancelled_1": _("Cancel requested for {n} task"),
        "cancelled_n": _("Cancel requested for {n} tasks"),
        "still_held": _("It is still held by the pause of {name}."),
        "undo": _("Undo"),
        "ask_title": _("Cancel {name}?"),
        "ask_title_below": _("Cancel {name} and everything below it?"),
        "ask_title_run": _("Cancel the whole run?"),
        "ask_lead": _("This can't be taken back. Finished tasks keep their results."),
        "ask_running_1": _(
            "running task is asked to stop; if it stays silent, the tower ends it after its grace"
        ),
        "ask_running_n": _(
            "running tasks are asked to stop; those that stay silent are ended by the tower after their grace"
        ),
        "ask_pending_1": _("pending task ends at once"),
        "ask_pending_n": _("pending tasks end at once"),
        "ask_planned_1": _("planned task is never started"),
        "ask_planned_n": _("planned tasks are never started"),
        "ask_ended_1": _("finished task stays as it is"),
        "ask_ended_n": _("finished tasks stay as they are"),
        "ask_button_1": _("Cancel {n} task"),
        "ask_button_n": _("Cancel {n} tasks"),
        "no_answer": _("The tower did not answer. Nothing is known to have been asked; try again."),
        # live
        "beat": _("{s} s"),
        "polling": _("by polling"),
        "catching_up": _("catching up"),
        "offline_since": _("Not live since {time}. Trying again."),
        "signed_out": _("You are no longer signed in."),
        "sign_in": _("Sign in again"),
        "not_allowed": _("You may not watch this run any more."),
        "gone": _("This run is gone."),
        "reload": _("The tower has a newer version. Reload the page to go on."),
        "finished": _("finished {time}"),
        "news": _("{ended} finished, {failed} failed"),
        "selected_failed": _("{name} failed."),
        "connection_lost": _("The connection was lost. The page tries to get it back."),
        "connection_back": _("The page is live again."),
        "failed_of": _("failure {n} of {all}"),
        "running_of": _("running task {n} of {all}"),
        "stuck_of": _("{n} of {all} that have not answered"),
        "match_of": _("match {n} of {all}"),
        "searching": _("searching…"),
        "not_searched": _("The tower could not search. Try again."),
        "found_1": _("{n} match"),
        "found_n": _("{n} matches"),
        "no_failed": _("Nothing has failed."),
        "no_running": _("Nothing runs."),
        "no_stuck": _("All that run do what was asked of them."),
        # keys
        "key_up": _("the row above"),
        "key_down": _("the row below"),
        "key_right": _("open, then the first child"),
        "key_left": _("fold, then the parent"),
        "key_home": _("the first row"),
        "key_end": _("the last row"),
        "key_page": _("a page up, a page down"),
        "key_open_below": _("open everything below"),
        "key_fold_below": _("fold everything below"),
        "key_level": _("fold to a level"),
        "key_sibling": _("the sibling before, the sibling after"),
        "key_parent": _("the parent"),
        "key_failed": _("the next, the previous failure"),
        "key_running": _("the next, the previous running task"),
        "key_stuck": _("the next, the previous that has not answered"),
        "key_open_siblings": _("open it and all its siblings"),
        "key_zoom": _("a closer, a wider look at the time"),
        "key_fit": _("the whole time"),
        "key_pan": _("earlier, later"),
        "key_commands": _("what can be asked of it"),
        "key_log": _("the log of the run"),
        "key_run": _("the newer, the older run"),
        "key_enter": _("the details"),
        "key_escape": _("back to the row, then close"),
        "key_search": _("search"),
        "key_follow": _("follow the newest running task"),
        "key_pause": _("pause"),
        "key_resume": _("resume"),
        "key_cancel": _("cancel…"),
        "key_copy": _("copy the link"),
        "key_sheet": _("these keys"),
    }
