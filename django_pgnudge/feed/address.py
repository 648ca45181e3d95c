"""Where a server is, and who asks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..wire import ANY_METHOD, AcceptedMethods
from .tls import TLS

_UNIX_PREFIXES = ("/", "@")

_NO_TLS = TLS("disable")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and who asks; ``host`` may be a Unix socket directory."""

    host: str
    port: int
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    tls: TLS = _NO_TLS
    methods: AcceptedMethods = ANY_METHOD
    application_name: str = "django_pgnudge"
    keepalive: float = 10.0
    """Seconds of silence after which the kernel probes whether the peer is still there."""

    def moved(self, **keywords: Any) -> Address:
        """This address with other values of WalFeed's keywords for it."""
        if "ssl" in keywords:
            keywords["tls"] = TLS.of(keywords.pop("ssl"))
        if "require_auth" in keywords:
            keywords["methods"] = AcceptedMethods.of(keywords.pop("require_auth"))
        return dataclasses.replace(self, **keywords)

    @property
    def unix_path(self) -> str | None:
        if not self.host.startswith(_UNIX_PREFIXES):
            return None
        path = f"{self.host}/.s.PGSQL.{self.port}"
        return "\0" + path[1:] if path.startswith("@") else path

    def __str__(self) -> str:
        where = self.host if self.unix_path else f"{self.host}:{self.port}"
        return f"{self.user}@{where}/{self.database}"
