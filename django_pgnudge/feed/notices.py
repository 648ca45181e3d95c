"""Notices within the stream. A WARNING means that a change may have been left out.

wal2json warns, for each row, if it cannot name the row of an UPDATE or a DELETE. PostgreSQL 18
warns if a publication does not exist. What any other warning means is unknown; it may be worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import ConnectionLostError, ServerError
from ..log import get_logger
from ..memo import Memo

log = get_logger("django_pgnudge.feed")

_HARMLESS = ("NOTICE", "INFO", "LOG", "DEBUG")

# As wal2json.c has it, with names that it does not escape.
_LEFT_OUT = re.compile(
    r'no (?:old )?tuple (?:data|identifier) for (?:INSERT|UPDATE|DELETE) in table "(.+)"\."(.+)"',
    re.DOTALL,
)
_BETWEEN_NAMES = '"."'
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"

_MOST_SAID = 1000
"""How many texts are remembered, so that each is logged once a stream."""


class Notices:
    """The notices of one stream."""

    def __init__(self, wanted: Callable[[str, str], bool], any_row: Callable[[str], None]) -> None:
        """``wanted`` says which tables are followed. ``any_row`` is called with the payload of a
        table: the open transaction may have changed any row of it."""
        self._wanted = wanted
        self._any_row = any_row
        self._said: Memo[str, None] = Memo(_MOST_SAID)

    def take(self, notice: ServerError) -> None:
        """Make up for the change that the notice says is missing.

        If it names the table, any row of that may have changed. Else raises ConnectionLostError:
        it is unknown what is missing, and a new stream begins with a Resync.
        """
        if notice.severity in _HARMLESS:
            if self._is_news(notice.message):
                log.info("the server says in the stream: %r", str(notice))
            return
        table = _table_left_out(notice.message)
        if table is None:
            raise ConnectionLostError(
                f"the server warned that changes may be missing from the stream: {str(notice)!r}"
            )
        if not self._wanted(*table):
            return
        payload = ".".join(table)
        self._any_row(payload)
        if self._is_news(payload):
            log.warning(
                "the output plugin leaves out changes of table %r, and so any row of it counts "
                "as changed: give it a primary key or another replica identity (%r)",
                payload,
                str(notice),
            )

    def _is_news(self, text: str) -> bool:
        if text in self._said:
            return False
        self._said[text] = None
        return True


def _table_left_out(message: str) -> tuple[str, str] | None:
    """The schema and the table that a warning certainly means."""
    match = _LEFT_OUT.fullmatch(message)
    if match is None or message.count(_BETWEEN_NAMES) != 1 or _UNREADABLE in message:
        return None
    return match[1], match[2]
