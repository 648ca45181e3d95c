"""Loggers that cannot fail: a line that is lost must not take a nudge with it.

A handler may raise (a full disk, a mail server that is down), and most of what is logged here is
logged on the way from a failure to its mending.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from _typeshed import SupportsWrite

__all__ = ["get_logger", "show_lines"]


def get_logger(name: str) -> _Logger:
    """The logger ``name``; what its handlers raise goes to standard error."""
    return _Logger(logging.getLogger(name))


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
