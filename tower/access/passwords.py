"""What a password may be, beside Django's own validators."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

MOST = 128
#: Words that anybody would try here.
OURS = ("command", "tower", "admin", "operator", "viewer", "editor")
#: So many different characters are left of a password without them.
LEAST_DIFFERENT = 5
#: So many characters behind a common one make no other of it.
MOST_APPENDED = 4


class NotTooLong:
    """Scrypt would chew on a longer one, and the sign-in takes none."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > MOST:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return _("A password has at most %(most)d characters.") % {"most": MOST}


class NotGuessed(CommonPasswordValidator):
    """The list of common ones has few of 12 characters: people lengthen a short one, or repeat it."""

    def validate(self, password: str, user: Any = None) -> None:
        core = essence(password, user.get_username() if user else "")
        begins = (core[:n] for n in range(max(8, len(core) - MOST_APPENDED), len(core) + 1))
        if len(set(core)) < LEAST_DIFFERENT or core in self.passwords or self.passwords.intersection(begins):
            raise ValidationError(self.get_error_message(), code="password_too_common")

    def get_error_message(self) -> str:
        return _("This password is too easy to guess.")

    def get_help_text(self) -> str:
        return _("Nor may it be a common one made longer, repeated, or joined to a name.")


def essence(password: str, name: str) -> str:
    """What is left of it without the words of the place, what stands around it, and repetition."""
    rest = password.lower()
    for word in (*OURS, name.lower()):
        rest = rest.replace(word, "") if len(word) >= 4 else rest
    ends = "".join({sign for sign in rest if not sign.isalpha()})
    rest = rest.strip(ends) or rest
    return rest[: (rest + rest).find(rest, 1)]
