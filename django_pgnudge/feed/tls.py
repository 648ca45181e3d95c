"""TLS as libpq means it: what each ``sslmode`` checks, and which files it reads.

Source: PostgreSQL documentation, "SSL Support" of libpq.
"""

from __future__ import annotations

import ssl as ssl_module
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ..errors import ConfigError, TLSError
from ..wire.auth import ChannelBindingPolicy

Mode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, slots=True)
class TLS:
    """How a connection is secured.

    ``rootcert``, ``crl``, ``cert`` and ``key`` are paths of PEM files; ``rootcert="system"``
    means the platform's certification authorities. Where they are None, libpq's files in
    ``~/.postgresql`` are used if they exist. ``server_name`` is the name the certificate must
    have under ``verify-full``, if it is not the host connected to. ``context`` replaces all of
    it but the mode. ``negotiation="direct"`` starts TLS without asking first (PostgreSQL 17).
    """

    mode: Mode = "verify-full"
    rootcert: str | None = None
    crl: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    server_name: str | None = None
    channel_binding: ChannelBindingPolicy = "prefer"
    negotiation: Literal["postgres", "direct"] = "postgres"
    context: ssl_module.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", get_args(Mode)),
            ("channel_binding", get_args(ChannelBindingPolicy)),
            ("negotiation", ("postgres", "direct")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"TLS {name}={getattr(self, name)!r} is not one of {', '.join(allowed)}"
                )
        if self.negotiation == "direct" and not self.required:
            raise ConfigError("TLS negotiation='direct' needs mode 'require' or stricter")
        if self.rootcert == "system" and self.mode != "verify-full" and self.context is None:
            raise ConfigError("TLS rootcert='system' needs mode 'verify-full'")

    @classmethod
    def of(cls, ssl: bool | ssl_module.SSLContext | TLS) -> TLS:
        """What a feed's ``ssl`` argument asks for; True verifies against the platform's CAs."""
        if isinstance(ssl, TLS):
            return ssl
        if isinstance(ssl, ssl_module.SSLContext):
            mode: Mode = "verify-full" if ssl.check_hostname else "require"
            return cls(mode, context=ssl)
        if ssl is True:
            return cls("verify-full", rootcert="system")
        if ssl is False:
            return cls("disable")
        raise ConfigError(f"ssl={ssl!r} is neither a bool, an ssl.SSLContext nor a TLS")

    @property
    def required(self) -> bool:
        return self.mode in ("require", "verify-ca", "verify-full")

    def make_context(self) -> ssl_module.SSLContext:
        """The context for a connection, read from the files; TLSError names the bad one."""
        if self.context is not None:
            return self.context
        context = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode == "verify-full"
        if self.negotiation == "direct":
            context.set_alpn_protocols(["postgresql"])
        rootcert = self._file(self.rootcert, "root.crt")
        if self.mode in ("verify-ca", "verify-full") or rootcert is not None:
            # As libpq: with a root certificate at hand, every mode verifies like "verify-ca".
            context.verify_mode = ssl_module.CERT_REQUIRED
        else:
            context.verify_mode = ssl_module.CERT_NONE
        if rootcert == "system":
            context.load_default_certs()
        elif context.verify_mode is ssl_module.CERT_REQUIRED:
            self._load_authorities(context, rootcert)
        cert = self._file(self.cert, "postgresql.crt")
        if cert is not None:
            key = self._file(self.key, "postgresql.key")
            try:
                context.load_cert_chain(cert, key, lambda: self.key_password or "")
            except (OSError, ValueError) as error:
                raise TLSError(f"the client certificate {cert} cannot be loaded: {error}") from None
        return context

    def _load_authorities(self, context: ssl_module.SSLContext, rootcert: str | None) -> None:
        if rootcert is None:
            raise TLSError(
                f"sslmode {self.mode!r} needs a root certificate, and ~/.postgresql/root.crt does "
                "not exist; set sslrootcert to a file, or to 'system'"
            )
        try:
            context.load_verify_locations(rootcert)
        except (OSError, ValueError) as error:
            raise TLSError(f"the root certificate {rootcert} cannot be loaded: {error}") from None
        crl = self._file(self.crl, "root.crl")
        if crl is not None:
            try:
                context.load_verify_locations(crl)
            except (OSError, ValueError) as error:
                raise TLSError(f"the revocation list {crl} cannot be loaded: {error}") from None
            context.verify_flags |= ssl_module.VERIFY_CRL_CHECK_CHAIN

    @staticmethod
    def _file(given: str | None, default: str) -> str | None:
        if given:
            return given
        try:
            path = Path.home() / ".postgresql" / default
            return str(path) if path.exists() else None
        except (OSError, RuntimeError):
            return None
