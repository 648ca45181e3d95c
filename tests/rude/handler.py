"""A log handler that cannot do what it is for."""

from __future__ import annotations

import logging


class FullDisk(logging.Handler):
    """As one that writes to a full disk, a closed socket, a service that has gone."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")
