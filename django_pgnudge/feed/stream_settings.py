"""What a stream needs of its feed's arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..decoding import DECODERS
from ..errors import ConfigError
from .address import Address


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Times are in seconds; ``plugins`` are the output plugins to try, in this order."""

    address: Address
    plugins: Sequence[str]
    publication: str | None
    tables: Sequence[str] | None
    keys: bool | Collection[str]
    max_keys: int
    visibility: bool
    status_interval: float
    liveness_timeout: float | None
    connect_timeout: float
    max_batch_wait: float

    def wants_keys(self, payload: str) -> bool:
        return self.keys if isinstance(self.keys, bool) else payload in self.keys

    @property
    def streamed_publication(self) -> str | None:
        """The publication whose tables the stream carries; None if it carries any table."""
        return self.publication if "pgoutput" in self.plugins else None


def plugins_for(plugin: str, publication: str | None) -> tuple[str, ...]:
    """The output plugins that a feed's arguments ask for; ConfigError if there is no such one."""
    if plugin == "auto":
        return ("pgoutput",) if publication is not None else ("wal2json", "test_decoding")
    if plugin not in DECODERS:
        raise ConfigError(f"plugin={plugin!r} is not one of auto, {', '.join(DECODERS)}")
    if plugin == "pgoutput" and publication is None:
        raise ConfigError("plugin='pgoutput' needs publication= to name a publication")
    return (plugin,)
