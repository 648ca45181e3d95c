"""Which threads serve requests, so that others can be told from them."""

from __future__ import annotations

import threading
from typing import Final

from asgiref.sync import SyncToAsync

request: Final = threading.local()
"""Its ``block`` is that of the request which this thread serves, if it serves one."""


def may_be_a_helper() -> bool:
    """Whether this thread may work for a computation of another thread.

    True in a thread that the program has started by itself. Such a thread does not know the context
    it works for. The main thread, one that serves a request, and one of asgiref's do.
    """
    return (
        getattr(request, "block", None) is None
        and threading.current_thread() is not threading.main_thread()
        and not hasattr(SyncToAsync.threadlocal, "main_event_loop")
    )
