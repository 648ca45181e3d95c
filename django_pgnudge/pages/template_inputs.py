"""What a fragment reads from the request, directly and through the template's context.

Context processors put parts of the request into the context under other names. While a fragment is
rendered, its context records each look-up of such a name by any tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.utils.functional import SimpleLazyObject

from django_pgnudge.pages.inputs import RequestInputs, raw
from django_pgnudge.pages.recording import RecordedInputs, ask_again, note_read, note_token

if TYPE_CHECKING:
    from django.template.base import FilterExpression
    from django.template.context import Context

_NAMED_AS: Final[dict[str, Callable[[str], str]]] = {
    "COOKIES": lambda name: f"cookie {name}",
    "META": lambda name: f"meta {name}",
    "environ": lambda name: f"meta {name}",
    "scope": lambda name: f"scope {name}",
    "headers": lambda name: f"header {name.lower().replace('_', '-')}",
}
"""The input that is covered when an item of one of these mappings is named."""

_PERMS: Final = "perms"
_TOKEN: Final = "csrf_token"  # noqa: S105 - a name in templates

_ANYWHERE: Final = (type(None), bool)
"""Types whose values are shared by many places: finding the same object proves nothing."""

_PLAIN: Final = (*_ANYWHERE, int, str)
"""Types of values that are not looked for on the request; such an input is then recorded as read,
which does no harm."""


class Named:
    """The parts of the request that a fragment names after ``by`` and ``on``."""

    def __init__(self, variables: Iterable[tuple[str, ...]]) -> None:
        self._variables = list(variables)

    def inputs(self, context: Context, asked: RequestInputs | None) -> frozenset[str]:
        """The named inputs; a variable such as ``user`` counts only if it is the request's."""
        if asked is None or not self._variables:
            return frozenset()
        covered: set[str] = set()
        on_request: dict[int, str] | None = None
        for first, *more in self._variables:
            if first == "request" and more:
                covered |= _covered_by(*more)
            elif first == _PERMS:
                covered.add(_PERMS)
            elif type(value := _looked_up(context, first)) not in _PLAIN:
                on_request = on_request or _on_request(asked)
                if (found := on_request.get(id(value))) is not None:
                    covered |= _covered_by(found.partition(" ")[2], *more)
        return frozenset(covered)


def named_in(expressions: Iterable[FilterExpression]) -> Named:
    """The variables in these expressions, such as ``request.user.pk``."""
    variables: list[Any] = []
    for expression in expressions:
        variables.append(expression.var)
        variables += [value for _, each in expression.filters for by_name, value in each if by_name]
    lookups = [getattr(variable, "lookups", None) for variable in variables]
    return Named([tuple(each) for each in lookups if each])


def _looked_up(context: Context, name: str) -> object:
    """A look-up like the context's own, without recording it."""
    layers = (layer for layer in reversed(context.dicts) if name in layer)
    return dict.get(next(layers, {}), name)


def _covered_by(name: str, *more: str) -> set[str]:
    if name == "session":
        return {"session key", "session data", "attribute session"}
    if name in _NAMED_AS:
        return {_NAMED_AS[name](more[0])} if more else set()
    # In Django REST framework's request, "user" is a property.
    return {f"attribute {name}", f"wrapper {name}", f"wrapper _{name}"}


def asked_in(context: Context) -> RequestInputs | None:
    """The request that a template is rendered for, if any."""
    request = getattr(context, "request", None) or context.get("request")
    return RequestInputs(request) if hasattr(request, "META") else None


@contextmanager
def used_in(
    context: Context, asked: RequestInputs, named: frozenset[str]
) -> Iterator[tuple[RecordedInputs, set[str]]]:
    """Record what the block reads; the set gets the names of personal parts that it used."""
    reads, used = RecordedInputs(asked, address_is_named=False), set[str]()
    depth = len(context.dicts)
    reads.start()
    try:
        context.dicts.append(_Names(_stand_for(context, asked, named), asked))
        yield reads, used
    finally:
        del context.dicts[depth:]
        reads.stop()
        if reads.why_personal:
            used.add(_TOKEN if "token" in reads.why_personal else "session")
        if "attribute _messages" in reads.values:
            messages = raw(asked.request).get("_messages")
            if getattr(messages, "_loaded_data", None) or getattr(messages, "used", False):
                used.add("messages")
        if {"attribute csp_nonce", "attribute _csp_nonce"} & reads.values.keys():
            used.add("csp_nonce")


class _Names(dict[str, Any]):
    """A layer of a context with names for parts of the request; it records each look-up."""

    def __init__(self, inputs: dict[str, tuple[str, object]], asked: RequestInputs) -> None:
        super().__init__({name: value for name, (_, value) in inputs.items()})
        self._inputs = inputs
        self._asked = asked

    def __getitem__(self, name: str) -> Any:
        note_read(self._asked, self._inputs[name][0])
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        # With an own __iter__, dict.update() and the like read items by __getitem__.
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - that is this


def _on_request(asked: RequestInputs) -> dict[int, str]:
    """The input of each object on the request, by the object's ``id()``."""
    request = asked.request
    return {
        id(value): f"{kind} {name}"
        for kind in ("wrapper", "attribute")
        for name, value in asked.held(kind).items()
        if type(value) not in _ANYWHERE and value is not request
    }


def _stand_for(
    context: Context, asked: RequestInputs, named: frozenset[str]
) -> dict[str, tuple[str, object]]:
    """For each name in a context that stands for an input, the input and its value."""
    on_request = _on_request(asked)
    found: dict[str, tuple[str, object]] = {}
    # By dict.items, so that nothing is recorded for a fragment around this one.
    everything = {name: value for layer in context.dicts for name, value in dict.items(layer)}
    for name, value in everything.items():
        if name == _TOKEN:
            if type(value) is SimpleLazyObject:
                ask_again(value, partial(note_token, asked))
        elif name == _PERMS:
            if _PERMS not in named and "attribute user" not in named:
                found[name] = "attribute user", value
        elif (what := on_request.get(id(value))) is not None and what not in named:
            found[str(name)] = what, value
    return found
