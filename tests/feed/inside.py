"""What a feed has in hand, for tests that wait for it: none of it has come to a consumer yet."""

# ruff: noqa: SLF001

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_pgnudge import WalFeed
    from django_pgnudge.feed.coalescer import Coalescer
    from django_pgnudge.feed.side_connection import SideConnection
    from django_pgnudge.feed.stream import Stream


def coalescer_of(feed: WalFeed) -> Coalescer:
    """What waits to be visible, or for the consumer."""
    return feed._coalescer


def stream_of(feed: WalFeed) -> Stream:
    """The stream that is live."""
    assert feed._stream is not None
    return feed._stream


def side_of(feed: WalFeed) -> SideConnection:
    """The connection on which the feed asks what is visible."""
    return stream_of(feed)._side


def running_at_handshake(feed: WalFeed) -> frozenset[int]:
    """The transactions that ran when the stream began, and have not ended."""
    watch = stream_of(feed)._handshake
    assert watch is not None
    return frozenset(watch.running)


def changed_by_open_streams(feed: WalFeed) -> set[str]:
    """The payloads that transactions which the server streams have changed so far."""
    return {
        payload
        for streamed in feed._coalescer.streams.values()
        for part in streamed._parts.values()
        for payload in part.pending
    }
