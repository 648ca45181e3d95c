"""What a row costs, counted and not timed: calls, instructions of the interpreter, objects left.

Recorded streams go through a decoder into a coalescer. A slow-down of the hot loop fails here
without a clock. The limits are what it takes today and a little more; whoever lowers the cost
lowers them.
"""

from __future__ import annotations

import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.decoding import DECODERS, DecoderOptions
from django_pgnudge.events import Batch
from django_pgnudge.feed.coalescer import Coalescer
from tests.decoding.columns import column
from tests.decoding.recorded import ROWS, TRANSACTIONS, recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


KEYS = {f"public.{table}": [column("id", "int4")] for table in ("narrow", "wide")}


def reader(plugin: str, table: str, transactions: str, *, keys: bool) -> Callable[[], Batch]:
    """Reads a recording and gives what a consumer would be given.

    It has read it once already: tables are known, and nothing is done for the first time.
    """
    stream = recording(plugin, table, transactions)
    coalescer = Coalescer(max_tables=8192, max_keys=1000)
    options = DecoderOptions(publication="nudge", wants_keys=lambda payload: keys)
    decoder = DECODERS[plugin](coalescer, KEYS, options)

    def read() -> Batch:
        assert decoder.scan(stream, 0) == len(stream)
        coalescer.release()
        batch = coalescer.take()
        assert isinstance(batch, Batch)
        return batch

    (event,) = read().events
    assert event.count == ROWS
    assert event.keys == (frozenset((n,) for n in range(1, ROWS + 1)) if keys else None)
    return read


def calls(function: Callable[[], object]) -> int:
    """How many calls it makes, to Python and to C."""
    found = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


def instructions(function: Callable[[], object]) -> int:
    """How many instructions of Python's it runs."""
    found = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal found
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        found += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(before)
    return found


every_plugin = pytest.mark.parametrize("plugin", DECODERS)
every_table = pytest.mark.parametrize("table", ["narrow", "wide"])
instructions_are_told = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="later Pythons do not tell of every instruction in a loop"
)


@every_table
@every_plugin
def test_a_row_of_the_table_before_costs_two_calls(plugin: str, table: str) -> None:
    read = reader(plugin, table, "one", keys=False)
    # Two a row, and some for the transaction around them.
    assert calls(read) <= 2 * ROWS + 120


@every_table
@every_plugin
def test_a_key_that_is_a_number_costs_few_more(plugin: str, table: str) -> None:
    most = {"pgoutput": 5.5, "wal2json": 8.5, "test_decoding": 6.5}
    assert calls(reader(plugin, table, "one", keys=True)) <= most[plugin] * ROWS


@every_plugin
def test_a_small_transaction_costs_few_calls_beside_its_rows(plugin: str) -> None:
    read = reader(plugin, "narrow", "many", keys=False)
    assert calls(read) <= 2 * ROWS + 48 * TRANSACTIONS["many"]


@instructions_are_told
@every_plugin
def test_instructions_are_few(plugin: str) -> None:
    many = TRANSACTIONS["many"]
    assert instructions(reader(plugin, "narrow", "one", keys=False)) <= 67 * ROWS
    assert instructions(reader(plugin, "narrow", "one", keys=True)) <= 133 * ROWS
    assert instructions(reader(plugin, "narrow", "many", keys=False)) <= 67 * ROWS + 700 * many


@every_plugin
def test_a_row_leaves_no_object_behind(plugin: str) -> None:
    read = reader(plugin, "narrow", "one", keys=False)
    tracemalloc.start()
    try:
        batch = read()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch.events
    # Bytes, and none of them a row's: 300 rows of the smallest object would be 8 kB.
    assert most <= 4000
    assert kept <= 2000
