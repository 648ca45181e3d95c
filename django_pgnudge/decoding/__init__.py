"""Reads the messages of output plugins: the hop after `wire`. No I/O.

Each plugin has a decoder. Its method ``scan`` takes every complete message out of the read buffer
in one loop and tells a `Sink` about each transaction: begin, rows, commit.
"""

from __future__ import annotations

from typing import Any

from .base import Decoder, DecoderOptions, Sink, TableFilter, python_codec
from .columns import KeyColumn, PrimaryKeys, read_value, write_value
from .pgoutput import PgOutput
from .test_decoding import TestDecoding
from .wal2json import Wal2Json

__all__ = [
    "DECODERS",
    "Decoder",
    "DecoderOptions",
    "KeyColumn",
    "PgOutput",
    "PrimaryKeys",
    "Sink",
    "TableFilter",
    "TestDecoding",
    "Wal2Json",
    "python_codec",
    "read_value",
    "write_value",
]

DECODERS: dict[str, type[Decoder[Any]]] = {
    decoder.plugin: decoder for decoder in (PgOutput, Wal2Json, TestDecoding)
}
"""The decoder of each supported output plugin, by the plugin's name."""
