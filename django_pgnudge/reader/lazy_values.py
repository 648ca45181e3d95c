"""Values that query the database only when they are looked at.

A function may return a queryset that has not been evaluated. It would be evaluated when it is
stored, and nobody would see what it reads. So it is evaluated while the computation is watched.
"""

from __future__ import annotations

import datetime as dt
import pickle
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from django.db.models import Model, QuerySet
from django.db.models.base import ModelState
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString

_PLAIN: Final = frozenset({
    int, str, bool, bytes, float, type(None), Decimal, uuid.UUID, dt.date, dt.datetime, dt.time,
    dt.timedelta, SafeString,
})  # fmt: skip
_CONTAINERS: Final = (list, tuple, set, frozenset)


def find_lazy(value: Any) -> list[Any]:
    """The parts of a value that may query when they are looked at.

    Of an instance of a model it is what somebody has left on it: to store its fields reads nothing.
    A response is looked at when it is rendered.
    """
    found: list[Any] = []
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        kind = type(each)
        if kind in _PLAIN:
            continue
        if isinstance(each, dict):
            parts: Any = each.values()
        elif isinstance(each, _CONTAINERS):
            parts = each
        elif isinstance(each, Model | ModelState):
            parts = vars(each).values()
        elif isinstance(each, QuerySet) and each._result_cache is not None:  # noqa: SLF001
            # It may have been evaluated to leave something on its instances.
            parts = each._result_cache  # noqa: SLF001
        else:
            if not isinstance(each, HttpResponseBase):
                found.append(each)
            continue
        if id(each) not in seen:
            seen.add(id(each))
            waiting.extend(parts)
    return found


def evaluate(lazy: list[Any]) -> None:
    """Let each of these query now. An exception of theirs is left for whoever looks at them."""
    for each in lazy:
        with suppress(Exception):
            if isinstance(each, QuerySet):
                evaluate(find_lazy(list(each)))
            else:
                pickle.dumps(each)
