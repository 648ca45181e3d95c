"""The classes of a request and its parts that record what is read from them.

`recording` sets these classes on existing objects; each stays the same object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Final, Protocol, Self

from django.contrib.sessions.backends.base import SessionBase
from django.http.request import HttpHeaders

from django_pgnudge.pages.inputs import own_class, raw

SESSION_CHANGED: Final = "session changed"
"""The name that is recorded as written when the session is changed."""

SESSION_MIDDLEWARE: Final = "django.contrib.sessions.middleware"

WATCH: Final = "_pgnudge_watch"
"""The attribute of a request and of a session that holds its ``Notes``."""


class Notes(Protocol):
    """Gets the reads that these classes record."""

    def note(self, name: str) -> None:
        """An input was read."""

    def wrote(self, name: str) -> None:
        """An input was written."""

    def refuse(self, why: str) -> None:
        """The inputs are not all known, so the result must not be kept."""

    def meta_as_it_is(self, holder: object) -> AbstractContextManager[None]:
        """Reads of META in the block are not recorded.

        Django builds headers and cookies from META in it; those record their own reads.
        """

    def attribute(self, kind: str, holder: object, name: str) -> None:
        """An attribute was read; it may be missing."""

    def session(self, session: SessionBase) -> None:
        """The session's data were read, and are loaded."""

    def got_session(self) -> None:
        """The request was given a session."""


def reader() -> str:
    """The name of the module that reads now: the first that does not only record reads."""
    frame = inspect.currentframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name not in _RECORDING:
            return name
        frame = frame.f_back
    return ""


_RECORDING: Final = frozenset(
    f"django_pgnudge.pages.{each}"
    for each in ("inputs", "recording", "recording_classes", "site_inputs")
)


class NotedHolder:
    """A request, or another holder of attributes, that records which of them are read."""

    pgnudge_kind: str

    def __getattribute__(self, name: str) -> Any:
        if name[:2] != "__":
            watch = raw(self).get(WATCH)
            if watch is not None:
                watch.attribute(type(self).pgnudge_kind, self, name)
                if _is_made_of_meta(self, name):
                    with watch.meta_as_it_is(self):
                        super().__getattribute__(name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        watch = raw(self).get(WATCH)
        if name == "session" and watch is not None:
            watch.got_session()

    def __delattr__(self, name: str) -> None:
        raw(self)[WATCH].attribute(type(self).pgnudge_kind, self, name)
        super().__delattr__(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy has the request's original class and records nothing."""
        raw(self)[WATCH].refuse("it copied the request")
        return _own_parts(self, own_class(self), WATCH)


@cache
def holder_that_notes(kind: type, role: str) -> type:
    return type(kind.__name__, (NotedHolder, kind), {**_names(kind), "pgnudge_kind": role})


def _is_made_of_meta(holder: Any, name: str) -> bool:
    """Whether Django builds this attribute from META at its first read, which is now."""
    is_request = type(holder).pgnudge_kind == "attribute"
    return is_request and name in ("COOKIES", "headers") and name not in raw(holder)


def _own_parts(held: Any, own: type, *but: str) -> tuple[Any, ...]:
    """What a copy that records nothing is made of: the original class and the attributes."""
    state = {name: value for name, value in raw(held).items() if name not in but}
    return _new, (own,), state


def _new(kind: type[object]) -> object:
    return object.__new__(kind)


_OF_EVERY_SESSION: Final = frozenset(
    {
        "accessed",
        "cache_key",
        "file_prefix",
        "key_salt",
        "model",
        "modified",
        "serializer",
        "storage_path",
    }
)
"""Public attributes of Django's session stores. Others are attributes of a custom store."""

read_key: Final[Callable[[Any], Any]] = SessionBase._get_session_key  # noqa: SLF001
_write_key: Final[Callable[[Any, Any], None]] = SessionBase._set_session_key  # noqa: SLF001
"""The base class's methods: a signed-cookie session overrides them, and its key is all its data."""


class NotedSession:
    """A session that records its reads; unlike in Django, a read of the key counts as access."""

    def __getattribute__(self, name: str) -> Any:
        if name[0] != "_" and name not in _OF_EVERY_SESSION and name in raw(self):
            raw(self)[WATCH].note(f"store {name}")
        return super().__getattribute__(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._note_data()
        return _own_parts(self, own_class(self), WATCH)

    @property
    def modified(self) -> bool:
        return bool(raw(self).get("modified"))

    @modified.setter
    def modified(self, is_modified: bool) -> None:
        raw(self)["modified"] = is_modified
        if is_modified:
            raw(self)[WATCH].wrote(SESSION_CHANGED)

    def is_empty(self) -> bool:
        asks_for_nothing = getattr(own_class(self), "is_empty", None) is SessionBase.is_empty
        if asks_for_nothing and reader() == SESSION_MIDDLEWARE:
            # It asks after each request whether there is a cookie to delete.
            return not read_key(self) and not raw(self).get("_session_cache")
        if self._noted_key() is None:  # without a key it may still have data that were set
            raw(self)[WATCH].note("session data")
        return bool(super().is_empty())  # type: ignore[misc]

    def _get_session(self, no_load: bool = False) -> Any:
        data = super()._get_session(no_load)  # type: ignore[misc]
        self._note_data()
        return data

    async def _aget_session(self, no_load: bool = False) -> Any:
        data = await super()._aget_session(no_load)  # type: ignore[misc]
        self._note_data()
        return data

    def _note_data(self) -> None:
        raw(self)[WATCH].session(self)

    def _noted_key(self) -> Any:
        self.accessed = True
        raw(self)[WATCH].note("session key")
        return read_key(self)

    def _get_session_key(self) -> Any:
        raw(self)[WATCH].note("session key")
        return super()._get_session_key()  # type: ignore[misc]

    session_key = property(_noted_key)
    _session_key = property(_noted_key, _write_key)
    _session = property(_get_session)


@cache
def session_that_notes(kind: type[SessionBase]) -> type[SessionBase]:
    # Django signs sessions with the name of their class, so the name must stay.
    return type(kind.__name__, (NotedSession, kind), _names(kind))


def _names(kind: type) -> dict[str, Any]:
    return {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "pgnudge_notes": True,
    }


class Items(dict[str, Any]):
    """A mapping of a request that records which of its items are read.

    A write also goes to the original mapping, which the server may still use.
    """

    kind: str
    watch: Notes

    def __init__(self, mapping: dict[str, Any]) -> None:
        super().__init__(mapping)
        self._mapping = mapping

    def note_item(self, name: str) -> None:
        self.watch.note(f"{self.kind} {name}")

    def note_all(self) -> None:
        self.watch.note(f"all {self.kind}")

    def __setitem__(self, name: str, value: Any) -> None:
        self.watch.wrote(f"{self.kind} {name}")
        super().__setitem__(name, value)
        self._mapping[name] = value

    def __delitem__(self, name: str) -> None:
        self.note_item(name)
        self.watch.wrote(f"{self.kind} {name}")
        super().__delitem__(name)
        self._mapping.pop(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        self.note_item(name)
        if name not in self._mapping:
            return super().pop(name, *default)
        value = self._mapping[name]
        del self[name]
        return value

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def popitem(self) -> tuple[str, Any]:
        self.note_all()
        name, value = self.as_it_is().popitem()
        del self[name]
        return name, value

    def clear(self) -> None:
        for name in self.as_it_is():
            del self[name]

    def as_it_is(self) -> dict[str, Any]:
        """Its items, without recording the read."""
        return dict(dict.items(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.note_all()
        return dict, (self.as_it_is(),)


class Headers(HttpHeaders):
    """A request's headers, which record which of them are read."""

    kind: str
    watch: Notes

    def __getitem__(self, key: str) -> str:
        self.watch.note(f"header {key.lower().replace('_', '-')}")
        value: str = super().__getitem__(key)
        return value

    def __iter__(self) -> Iterator[str]:
        self.watch.note("all header")
        return super().__iter__()

    def __len__(self) -> int:
        self.watch.note("all header")
        return super().__len__()

    def __repr__(self) -> str:
        self.watch.note("all header")
        return super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.watch.note("all header")
        return _own_parts(self, HttpHeaders, "kind", "watch")


_OF_ONE: Final = ("__contains__", "__getitem__", "get")

_OF_ALL: Final = (
    "__eq__", "__iter__", "__len__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__",
    "copy", "items", "keys", "values",
)  # fmt: skip


def _noted(name: str) -> Callable[..., Any]:
    read = getattr(dict, name)

    def look(self: Items, *args: Any) -> Any:
        if name in _OF_ONE:
            self.note_item(args[0])
        else:
            self.note_all()
        return read(self, *args)

    return look


for _name in (*_OF_ONE, *_OF_ALL):
    setattr(Items, _name, _noted(_name))
