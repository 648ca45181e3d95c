"""Loggers that cannot fail, and whose lines are lines.

A handler may raise (a full disk, a mail server that is down), and most of what is logged here is
logged on the way from a failure to its mending: a line that is lost must not take a nudge with it.

Much of it quotes texts that others chose: names of tables, payloads, errors of servers. None of
them may end a line, begin another or talk to the terminal, so whatever is not printable is escaped
here, for every line of the package.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.memo import Memo

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from _typeshed import SupportsWrite


EVERY: Final = 60.0
"""Seconds between two equal warnings that a request, or a failure that goes on, can cause."""

_logged_at: Memo[object, float] = Memo(1000)
_logged_lock = threading.Lock()


def get_logger(name: str) -> _Logger:
    """The logger ``name``; what its handlers raise goes to standard error."""
    logger = logging.getLogger(name)
    logger.addFilter(_escape_record)
    return _Logger(logger)


def may_log(about: object, every: float = EVERY) -> bool:
    """Rate limit for warnings that a request, or a failure that goes on, can cause.

    Whether ``every`` seconds have passed since this was last True for ``about``, which is hashable.
    """
    now = time.monotonic()
    with _logged_lock:
        last = _logged_at.get(about)
        if last is not None and now - last < every:
            return False
        _logged_at[about] = now
        return True


def forget_logged() -> None:
    """Log everything again: for tests."""
    _logged_at.clear()


def escape(text: str) -> str:
    """The text with a backslash escape for each character that is not printable.

    As Python sees it (`str.isprintable`): control characters, line and paragraph separators, marks
    that change the direction of writing, halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def show_lines(stream: SupportsWrite[str], verbosity: int) -> None:
    """Write the package's lines to a stream, in a project whose LOGGING has no handler for them.

    ``verbosity`` is that of a management command, 0 to 3.
    """
    logger = logging.getLogger("django_pgnudge")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("{asctime} {levelname} {message}", style="{"))
    logger.addHandler(handler)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))


class _Escaped:
    """Stands for an argument whose text is not printable."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escape(str(self._value))

    def __repr__(self) -> str:
        return escape(repr(self._value))


def _escape_record(record: logging.LogRecord) -> bool:
    if isinstance(record.msg, str):
        record.msg = escape(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_printable, record.args))
    elif record.args:
        record.args = {name: _printable(value) for name, value in record.args.items()}
    if record.exc_info and record.exc_info[1] is not None:
        text = logging.Formatter().formatException(record.exc_info)
        escaped = _escape_traceback(text, record.exc_info[1])
        if escaped != text:
            # Formatters take it from here.
            record.exc_text = escaped
    return True


def _printable(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        is_printable = str(value).isprintable() and repr(value).isprintable()
    except Exception:
        # The handler fails over it too, and tells.
        return value
    return value if is_printable else _Escaped(value)


def _escape_traceback(text: str, exc: BaseException) -> str:
    """Of a formatted exception: only what is no part of a message is a new line."""
    waiting, seen = [exc], set()
    while waiting:
        each = waiting.pop()
        seen.add(id(each))
        # An exception that fails to tell its message does not show one either.
        with contextlib.suppress(Exception):
            for said in (str(each), *getattr(each, "__notes__", ())):
                text = text.replace(said, escape(said)) if said.strip() else text
        others = (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
        waiting += [other for other in others if other is not None and id(other) not in seen]
    return "\n".join(map(escape, text.split("\n")))


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # This frame is not the caller's.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:
            with contextlib.suppress(Exception):
                traceback.print_exc()

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
