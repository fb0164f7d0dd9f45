"""Settings that contradict each other stop the start."""

from __future__ import annotations

import pytest

from tower import checks
from tower.binding import Refused


def test_the_settings_as_they_are_agree():
    checks.refuse_what_disagrees()


@pytest.mark.parametrize(("less", "more"), checks.AT_MOST)
def test_a_limit_above_the_one_that_holds_it_is_refused(settings, less, more):
    setattr(settings, less, getattr(settings, more) + 1)

    with pytest.raises(Refused, match=rf"^{less} is \d+, more than {more}"):
        checks.refuse_what_disagrees()


def test_all_hosts_are_no_host(settings):
    settings.ALLOWED_HOSTS = ["*"]

    with pytest.raises(Refused, match="ALLOWED_HOSTS"):
        checks.refuse_what_disagrees()
