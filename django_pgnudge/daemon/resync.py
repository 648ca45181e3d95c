"""What a Resync clears, by ``PGNUDGE["RESYNC"]``, and what is done where a backend cannot."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from django_pgnudge.backoff import Backoff
from django_pgnudge.caches import Refusal
from django_pgnudge.conf import conf
from django_pgnudge.conf.values import RESYNCS, import_callable
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.signals import between_requests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_pgnudge.daemon.rule_callables import RuleCallables
    from django_pgnudge.rules import CacheRef, RuleSet

logger = get_logger("django_pgnudge.daemon")

REPEAT_AFTER: Final = 600.0
"""Seconds after which what a backend cannot do is said again."""


class Resyncer:
    """Turns a Resync into work for caches, or into a call of the user's function."""

    def __init__(self, using: str, rules: RuleSet, callables: RuleCallables) -> None:
        self._using = using
        self._rules = rules
        self._callables = callables
        self._wake = threading.Condition()
        self._reasons: list[str] = []
        self._closing = False
        self._thread: threading.Thread | None = None

    def is_call(self) -> bool:
        """Whether the setting names a function, which then clears by itself."""
        return conf.RESYNC not in RESYNCS

    def invalidation(self, alias: str) -> Invalidation:
        """What to clear in one alias. Blocks for a while where rules have callables."""
        refs = {ref for ref in self._rules.cache_refs() if ref.alias == alias}
        match conf.RESYNC:
            case "clear":
                return Invalidation(everything=True)
            case "keys":
                return self._keys_of_rules(refs)
            case _:
                return Invalidation(versions=refs)

    def fallback(self, alias: str, refusals: Iterable[Refusal]) -> Invalidation:
        """What to do where the backend has no patterns or cannot clear a version; never silent."""
        refusals = list(refusals)
        if conf.RESYNC == "clear":
            return Invalidation(everything=True)
        for refusal in refusals:
            if may_log((alias, str(refusal.error)), REPEAT_AFTER):
                logger.error("%s", refusal.error)
        return self._keys_of_rules({refusal.ref for refusal in refusals if refusal.whole_version})

    def _keys_of_rules(self, refs: set[CacheRef]) -> Invalidation:
        invalidation = Invalidation()
        for ref, deletes in self._callables.everything().items():
            if ref in refs:
                invalidation.add(ref, deletes)
        return invalidation

    def call_soon(self, reason: str) -> None:
        """Have the user's function called in a thread, again and again until it succeeds."""
        with self._wake:
            if reason not in self._reasons:
                self._reasons.append(reason)
            self._wake.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="pgnudge resync", daemon=True
                )
                self._thread.start()

    def calls(self) -> bool:
        """Whether the user's function is still to be called, or has not returned."""
        with self._wake:
            return bool(self._reasons)

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()

    def _loop(self) -> None:
        backoff = Backoff(0.1, 30.0, least=0.5)
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._reasons or self._closing)
                if self._closing:
                    return
                reason = self._reasons[0]
            try:
                with between_requests():
                    import_callable(conf.RESYNC)(reason=reason, using=self._using)
            except Exception:
                logger.exception(
                    'PGNUDGE["RESYNC"] = %r raised; it will be called again.', conf.RESYNC
                )
                with self._wake:
                    self._wake.wait_for(lambda: self._closing, backoff.next_delay())
            else:
                backoff.reset()
                with self._wake:
                    self._reasons.remove(reason)
