"""What a daemon has done, as its last line in the log."""

from __future__ import annotations

from collections import Counter

from django_pgnudge.daemon.status import Status


def test_a_status_reads_as_a_line() -> None:
    status = Status(
        seconds=7384.6, lsn=0x1_0300_0148, batches=1, deleted=5003,
        resyncs=Counter(connected=1, reconnected=2), outages=1, renewals=480,
    )  # fmt: skip
    assert str(status) == (
        "2:03:04, at LSN 1/3000148: 1 batch, 5003 keys deleted, 3 Resyncs,"
        " 1 outage of caches, 480 lease renewals"
    )
