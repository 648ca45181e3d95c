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
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString

_PLAIN: Final = frozenset({
    int, str, bool, bytes, float, type(None), Decimal, uuid.UUID, dt.date, dt.datetime, dt.time,
    dt.timedelta, SafeString,
})  # fmt: skip
_CONTAINERS: Final = (list, tuple, set, frozenset)


def find_lazy(value: Any) -> list[Any]:
    """The parts of a value that may query when they are looked at.

    Instances of models are taken for what was read: to store them reads nothing. A response is
    looked at when it is rendered.
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
        else:
            if not isinstance(each, Model | HttpResponseBase):
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
                len(each)
            else:
                pickle.dumps(each)
