from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import ProtocolError
from django_pgnudge.feed.visibility import Handshake, Snapshot


def test_a_snapshot_is_read_as_the_server_prints_it():
    assert Snapshot.parse("10:20:10,14,15") == Snapshot(10, 20, frozenset({10, 14, 15}))
    assert Snapshot.parse("795:795:") == Snapshot(795, 795, frozenset())


@pytest.mark.parametrize("text", ["", "1:2", "1:2:3,", "a:b:", "1:2:3:4", "-1:2:", "1:2:٣"])
def test_what_is_no_snapshot_is_refused(text):
    with pytest.raises(ProtocolError, match="pg_snapshot"):
        Snapshot.parse(text)


def test_ended_transactions_are_seen_and_running_ones_are_not():
    snapshot = Snapshot.parse("10:20:10,14,15")
    assert [xid for xid in range(5, 25) if not snapshot.sees(xid)] == [10, 14, 15, *range(20, 25)]


@pytest.mark.parametrize("epoch", [1, 2, 7])
def test_32_bit_xids_compare_across_a_wrap_around(epoch):
    base = epoch << 32
    snapshot = Snapshot(base - 5, base + 5, frozenset({base - 3, base + 2}))
    assert snapshot.sees((base - 6) & 0xFFFFFFFF), "before the wrap-around, long ended"
    assert not snapshot.sees((base - 3) & 0xFFFFFFFF)
    assert snapshot.sees(0)
    assert not snapshot.sees(2)
    assert not snapshot.sees(5)
    assert not snapshot.sees(100)
    assert snapshot.sees(0xFFFFFFFF)


@given(
    xmax=st.integers(1 << 31, 1 << 40),
    width=st.integers(0, 200),
    listed=st.sets(st.integers(0, 199)),
    back=st.integers(-1000, 1000),
)
def test_a_32_bit_xid_is_judged_as_its_64_bit_one(xmax, width, listed, back):
    xmin = xmax - width
    in_progress = frozenset(xmin + n for n in listed if n < width)
    snapshot = Snapshot(xmin, xmax, in_progress)
    full = xmax - back
    assert snapshot.widen(full & 0xFFFFFFFF) == full
    assert snapshot.sees(full & 0xFFFFFFFF) == (full < xmax and full not in in_progress)


def test_a_handshake_waits_until_all_have_ended():
    handshake = Handshake([10, 14])
    assert not handshake.observe(Snapshot.parse("10:20:10,14"))
    assert not handshake.observe(Snapshot.parse("14:20:14"))
    assert handshake.observe(Snapshot.parse("15:20:"))


def test_a_transaction_that_came_through_the_stream_needs_no_resync():
    handshake = Handshake([10])
    handshake.conclude([10], until=500)
    assert handshake.due(100, lambda xid: xid == 10) is False


def test_a_transaction_in_no_stream_needs_a_resync_once_the_stream_has_passed_its_end():
    handshake = Handshake([10])
    assert handshake.due(10**9, lambda xid: False) is None, "its outcome is not known"
    handshake.conclude([10], until=500)
    assert handshake.due(499, lambda xid: False) is None, "it may still come"
    assert handshake.due(500, lambda xid: False) is True


def test_aborted_transactions_need_no_resync():
    handshake = Handshake([10, 11])
    handshake.conclude([], until=500)
    assert handshake.due(0, lambda xid: False) is False


def test_no_transaction_running_needs_no_resync():
    handshake = Handshake([])
    assert handshake.observe(Snapshot.parse("5:5:"))
