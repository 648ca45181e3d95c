"""Output plugins' messages read into begin, rows and commit: the hop after the wire.

Each plugin has a decoder with one method, ``scan``, that takes every complete message of the
stream out of the read buffer in one loop and tells a `Sink` what it found. Nothing here does
I/O.
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
"""The decoder of each output plugin this package speaks, by the plugin's name."""
