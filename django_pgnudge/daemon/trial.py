"""``runnudge --check``: whether the daemon could do its work here, and what that would be.

Beside the path of a byte: it connects once, waits for nothing that may pass by itself, and asks
each cache by the commands that the daemon will send.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.daemon.connect_hints import explain
from django_pgnudge.errors import CacheError, NotReadyError, PgNudgeError, ServerError
from django_pgnudge.rules import CacheRef, Deletes
from django_pgnudge.rules.keyspecs import Fixed, Function, Pattern, Template
from django_pgnudge.signals import between_requests
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_pgnudge.rules import Rule, RuleSet
    from django_pgnudge.rules.keyspecs import KeySpec

PROBE: Final = "pgnudge:check"
PROBE_TIMEOUT: Final = 10.0
"""Seconds for which what is written to try a cache would stay if it could not be deleted."""

_FULL: Final = {
    "53400": "Raise max_replication_slots (and max_wal_senders), or drop slots that nobody uses:"
    " SELECT * FROM pg_replication_slots;",
    "53300": "Raise max_wal_senders or max_connections, or end connections that nobody uses.",
}
"""What `runnudge` waits for, as it may pass by itself, and what helps if it does not."""


async def run_all(timeout: float, *parts: Callable[[], Any]) -> list[Any]:  # noqa: ASYNC109
    """The results of asynchronous parts side by side. Raises NotReadyError with all failures."""
    tasks = [asyncio.ensure_future(part()) for part in parts]
    _, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    problems = []
    for each in found:
        if isinstance(each, NotReadyError | asyncio.CancelledError):
            problems.append(str(each) or f"No answer within {timeout:g} s.")
        elif isinstance(each, PgNudgeError):
            problems.append(_said(each))
        elif isinstance(each, BaseException):
            raise each
    if problems:
        raise NotReadyError("\n".join(problems))
    return found


def _said(error: PgNudgeError) -> str:
    if isinstance(error, ServerError) and error.sqlstate in _FULL:
        return f"{error}. {_FULL[error.sqlstate]}"
    return explain(error) or str(error)


async def try_caches(rules: RuleSet, timeout: float) -> list[str]:  # noqa: ASYNC109
    """What a Resync would clear in each cache, a line each. Raises NotReadyError."""
    nudged = set(conf.NUDGED["CACHES"])
    aliases = sorted({ref.alias for ref in rules.cache_refs()} | nudged)

    def part(alias: str) -> Callable[[], Any]:
        async def tried() -> list[str]:
            invalidation = functools.partial(_try_cache, alias, rules, is_nudged=alias in nudged)
            try:
                async with asyncio.timeout(timeout):
                    return await Thread(f"pgnudge check {alias}").run(invalidation)
            except TimeoutError:
                raise NotReadyError(
                    f"Cache {alias!r} did not answer within {timeout:g} s: see that its server"
                    " runs, or give --timeout more seconds if it is only large."
                ) from None

        return tried

    found = await run_all(timeout + 1, *map(part, aliases))
    return [line for lines in found for line in lines]


def _try_cache(alias: str, rules: RuleSet, *, is_nudged: bool) -> list[str]:
    with between_requests():
        # Keys that are not there, by the commands that delete those that are.
        caches.delete(CacheRef(alias), Deletes(keys={PROBE}))
        if is_nudged:
            _try_writing(alias)
        where = f"cache {alias!r} ({caches.address(alias)})"
        if conf.RESYNC == "clear" and alias in {ref.alias for ref in rules.cache_refs()}:
            return [f"{where}: {_keys(caches.count_all(alias))}"]
        lines = []
        for ref, deletes in sorted(_cleared(alias, rules).items(), key=lambda item: str(item[0])):
            version = "its own version" if ref.version is None else f"version {ref.version}"
            lines.append(f"{where}, {version}: {_keys(caches.count(ref, deletes))}")
        return lines


def _try_writing(alias: str) -> None:
    """A lease must be written, and read as it was written. Raises CacheError."""
    # Another alias of the same place is tried at the same time.
    probe = f"{PROBE}:{secrets.token_hex(8)}"
    with caches.writing_value_store(alias) as values:
        if (refusal := values.refusal()) is not None:
            raise CacheError(f"Cache {alias!r} cannot hold nudged values: {refusal}.")
        values.set(probe, [probe], PROBE_TIMEOUT)
        found = values.get(probe)
        values.delete([probe])
        left = values.get(probe)
    if found != [probe] or left is not None:
        raise CacheError(
            f"Cache {alias!r} ({caches.address(alias)}) does not keep what is written to it, or"
            " does not delete it: see that its server runs, is no replica and has memory left."
        )


def _cleared(alias: str, rules: RuleSet) -> dict[CacheRef, Deletes]:
    """What a Resync clears; nothing is known of what a function of the user's does."""
    if conf.RESYNC == "versions":
        return {ref: Deletes(whole=True) for ref in rules.cache_refs() if ref.alias == alias}
    if conf.RESYNC == "keys":
        found = rules.everything(ask=False)
        return {ref: deletes for ref, deletes in found.items() if ref.alias == alias}
    return {}


def _keys(count: int | None) -> str:
    if count is None:
        return "as many keys as there are, it does not tell"
    return f"{count:,} {'key' if count == 1 else 'keys'}"


def _nothing_to_count(rules: RuleSet) -> str:
    return "what your function clears" if rules.rules else "nothing: there are no rules"


def describe(rules: RuleSet, payload_of: Callable[[Rule], str], counts: list[str]) -> str:
    """What ``runnudge`` would do, for people."""
    return "\n".join([
        "Ready. Rules:" if rules.rules else "Ready. There are no rules.",
        *(f"  {line}" for line in _rule_lines(rules, payload_of)),
        f'A Resync, as at each start, clears by PGNUDGE["RESYNC"] = {conf.RESYNC!r}:',
        *(f"  {line}" for line in counts or [_nothing_to_count(rules)]),
        f"Nudged values are kept in {', '.join(map(repr, conf.NUDGED['CACHES'])) or 'no cache'}.",
    ])  # fmt: skip


def _rule_lines(rules: RuleSet, payload_of: Callable[[Rule], str]) -> Iterator[str]:
    for rule in rules.rules:
        version = "" if rule.ref.version is None else f" version {rule.ref.version}"
        keys = ", ".join(dict.fromkeys(map(_written, rule.specs)))
        below = " and below" if rule.is_tree else ""
        yield f"{payload_of(rule)}{below}: {keys} in cache {rule.ref.alias!r}{version}"


def _written(spec: KeySpec) -> str:
    match spec:
        case Fixed():
            return spec.written or repr(spec.key)
        case Pattern():
            return spec.written or repr(spec.glob)
        case Template():
            return repr(spec.text) if spec.parts else spec.text
        case Function():
            return f"{spec.name}()"
