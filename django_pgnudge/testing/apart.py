"""Gives a test its own key prefix in the project's caches, so it uses no other keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import django.test.signals  # noqa: F401 - creates the caches again when CACHES changes
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import default_key_func
from django.core.signals import setting_changed

from django_pgnudge.caches import delete_stored
from django_pgnudge.reader import protocol

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache

LONGEST: Final = 3600
"""The lifetime, in seconds, of a test's lease, tokens and values without a timeout. So the keys of
a killed test expire."""


@contextmanager
def apart() -> Iterator[str]:
    """Give every cache that is created in this block a prefix, and delete its keys afterwards.

    This includes caches of settings that a test changes in the block. Yields the prefix. In a cache
    that cannot list its keys (memcached, files) the keys expire.
    """
    prefix = f"pgnudge-test-{secrets.token_hex(8)}"
    make = caches.create_connection
    made: dict[int, tuple[str, BaseCache]] = {}

    def make_apart(alias: str) -> BaseCache:
        cache: BaseCache = make(alias)
        _set_apart(cache, prefix)
        made[id(cache)] = alias, cache
        return cache

    with (
        mock.patch.object(caches, "create_connection", make_apart),
        mock.patch.object(protocol, "token_timeout", return_value=LONGEST),
    ):
        _reset_caches()
        try:
            yield prefix
        finally:
            for alias, cache in list(made.values()):
                # If a cache is down, its keys expire; nobody else uses the prefix.
                with suppress(Exception):
                    delete_stored(alias, cache, prefix)
    _reset_caches()


def _reset_caches() -> None:
    setting_changed.send(sender=None, setting="CACHES", value=settings.CACHES, enter=True)


def _set_apart(cache: BaseCache, prefix: str) -> None:
    named: Any = cache
    own = named.key_prefix
    named.key_prefix = f"{prefix}:{own}" if own else prefix
    make_key = named.key_func
    if make_key is not default_key_func:
        # A custom function may ignore the prefix.
        named.key_func = lambda key, inner, version: f"{prefix}:{make_key(key, inner, version)}"
    timeout = named.default_timeout
    named.default_timeout = LONGEST if timeout is None else min(timeout, LONGEST)
