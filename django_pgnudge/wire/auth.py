"""Authentication: the client's answers to the server's challenges.

A password is sent only inside SCRAM or over an encrypted connection. The server's final SCRAM
signature is always verified. Source: PostgreSQL documentation, "SASL Authentication"; scramp
implements RFC 5802 and RFC 5929.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..errors import AuthenticationError, ProtocolError
from . import messages
from .methods import ANY_METHOD, AcceptedMethods

if TYPE_CHECKING:
    import scramp

ChannelBindingPolicy = Literal["disable", "prefer", "require"]

MAX_ITERATIONS = 1_000_000
"""The most SCRAM iterations accepted from a server (PostgreSQL's default is 4,096). With more, a
hostile server could keep this process busy for seconds."""

_ITERATIONS = re.compile(rb",i=(\d+)(?:,|$)")

_ASKED = {
    3: ("password", "server requested a cleartext password"),
    5: ("md5", "server requested a hashed password"),
    7: ("gss", "server requested GSSAPI authentication"),
    9: ("sspi", "server requested SSPI authentication"),
    10: ("scram-sha-256", "server requested SASL authentication"),
}
"""For the code of each request: the method, and libpq's description of the request."""

_UNSUPPORTED = {
    2: "Kerberos V5",
    6: "SCM credentials",
    7: "GSSAPI",
    9: "SSPI",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client's login data and its security policy.

    ``tls`` is the ``ssl.SSLObject`` of the connection, or None. Without it no cleartext or MD5
    password is sent, and channel binding is impossible.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    tls: object | None = field(default=None, repr=False)
    channel_binding: ChannelBindingPolicy = "prefer"
    methods: AcceptedMethods = ANY_METHOD


class Authenticator:
    """One authentication exchange; pass the body of each Authentication message to `answer`."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._scram: scramp.ScramClient | None = None
        self._verified = False
        self._bound = False
        self._has_authenticated = False
        self.done = False

    def answer(self, body: bytes) -> bytes:
        """The message to send back, empty if there is none.

        Raises AuthenticationError when the client cannot continue or refuses to, and ProtocolError
        for a message that is invalid at this point.
        """
        if len(body) < 4:
            raise ProtocolError("an Authentication message is too short")
        code = int.from_bytes(body[:4], "big")
        rest = body[4:]
        if self._scram is not None and code not in (0, 11, 12):
            raise ProtocolError(f"authentication request {code} in the middle of SCRAM")
        if code in _ASKED:
            self._credentials.methods.check(*_ASKED[code])
        match code:
            case 0:
                return self._ok()
            case 3:
                return self._send(self._secret("a cleartext password"))
            case 5:
                return self._send(self._md5(rest))
            case 10:
                return self._sasl(rest)
            case 11:
                return self._continue(rest)
            case 12:
                return self._final(rest)
        raise AuthenticationError(
            f"the server asks for {_UNSUPPORTED.get(code, f'authentication method {code}')}, "
            "which this client does not speak; give the role scram-sha-256 in pg_hba.conf"
        )

    def _ok(self) -> bytes:
        if self._scram is not None and not self._verified:
            raise AuthenticationError(
                "the server ended SCRAM without proving that it knows the password"
            )
        if self._credentials.channel_binding == "require" and not self._bound:
            raise AuthenticationError(
                "channel binding is required, and the server authenticated the client without it"
            )
        if not self._has_authenticated:
            self._credentials.methods.check("none", "server did not complete authentication")
        self.done = True
        return b""

    def _send(self, secret: str | bytes) -> bytes:
        self._has_authenticated = True
        return messages.password(secret)

    def _password(self, what: str) -> str:
        if self._credentials.password is None:
            raise AuthenticationError(
                f"the server asks for {what} for role {self._credentials.user!r}, "
                "and no password is configured"
            )
        return self._credentials.password

    def _secret(self, what: str) -> str:
        secret = self._password(what)
        if self._credentials.channel_binding == "require":
            raise AuthenticationError(
                f"channel binding is required, and the server asks for {what}, which has none"
            )
        if self._credentials.tls is None:
            raise AuthenticationError(
                f"the server asks for {what} over an unencrypted connection, and it is not sent; "
                "use TLS, or scram-sha-256 in pg_hba.conf"
            )
        return secret

    def _md5(self, salt: bytes) -> bytes:
        if len(salt) != 4:
            raise ProtocolError("an MD5 password request has no salt of four bytes")
        secret = self._secret("an MD5 password")
        # The protocol requires MD5. TLS protects the result.
        inner = hashlib.md5((secret + self._credentials.user).encode(), usedforsecurity=False)
        outer = hashlib.md5(inner.hexdigest().encode() + salt, usedforsecurity=False)
        return b"md5" + outer.hexdigest().encode()

    def _sasl(self, body: bytes) -> bytes:
        # Imported late: this import takes as long as that of the rest of the feed.
        import scramp  # noqa: PLC0415

        offered = [name.decode("ascii", "replace") for name in body.split(b"\0") if name]
        policy = self._credentials.channel_binding
        binding = None
        if self._credentials.tls is not None and policy != "disable":
            binding = ("tls-server-end-point", self._credentials.tls)
        why = "the connection has no TLS"
        if binding is not None and _signed_without_hash(self._credentials.tls):
            # Act as a client without channel binding: PostgreSQL cannot bind with it either.
            binding, why = None, "the signature of the server's certificate uses no hash"
        plus = binding is not None and "SCRAM-SHA-256-PLUS" in offered
        if policy == "require" and not plus:
            if binding is not None:
                why = "the server does not offer it"
            raise AuthenticationError(f"channel binding is required, and {why}")
        secret = self._password("a password (SCRAM)")
        try:
            self._scram = self._client(offered, secret, binding, plus=plus)
        except scramp.ScramException as error:
            # scramp may fail to read the certificate. Try again without channel binding.
            if policy == "require" or binding is None:
                raise AuthenticationError(f"SCRAM cannot start: {error}") from None
            plus = False
            try:
                self._scram = self._client(offered, secret, None, plus=plus)
            except scramp.ScramException as again:
                raise AuthenticationError(f"SCRAM cannot start: {again}") from None
        self._bound = plus
        first = self._scram.get_client_first()
        return messages.sasl_initial_response(self._scram.mechanism_name, first.encode())

    @staticmethod
    def _client(
        offered: list[str], secret: str, binding: tuple[str, object] | None, *, plus: bool
    ) -> scramp.ScramClient:
        import scramp  # noqa: PLC0415

        mechanism = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
        if mechanism not in offered:
            raise AuthenticationError(
                f"the server offers {', '.join(offered) or 'no SASL mechanism'}; "
                "this client speaks SCRAM-SHA-256 and SCRAM-SHA-256-PLUS"
            )
        # PostgreSQL takes the user from the startup message and ignores this name. A binding with
        # the plain mechanism tells the server that this client supports binding. If the server
        # offered PLUS and a man in the middle removed the offer, the server then refuses.
        client = scramp.ScramClient([mechanism], "*", "unused", channel_binding=binding)
        # scramp refuses passwords that SASLprep refuses; PostgreSQL accepts them.
        client.password = _Prepared(_prepared(secret))
        return client

    def _continue(self, body: bytes) -> bytes:
        import scramp  # noqa: PLC0415

        if self._scram is None:
            raise ProtocolError("the server continues SCRAM before it began")
        iterations = _ITERATIONS.search(body)
        if iterations is not None and len(iterations[1]) > len(str(MAX_ITERATIONS)):
            raise AuthenticationError(
                f"the server asks for more than {MAX_ITERATIONS} SCRAM iterations"
            )
        if iterations is not None and int(iterations[1]) > MAX_ITERATIONS:
            raise AuthenticationError(
                f"the server asks for {int(iterations[1])} SCRAM iterations; "
                f"at most {MAX_ITERATIONS} are accepted"
            )
        try:
            self._scram.set_server_first(body.decode())
            return messages.sasl_response(self._scram.get_client_final().encode())
        except (scramp.ScramException, ValueError) as error:
            raise AuthenticationError(f"the server's SCRAM challenge is wrong: {error}") from None

    def _final(self, body: bytes) -> bytes:
        import scramp  # noqa: PLC0415

        if self._scram is None:
            raise ProtocolError("the server ends SCRAM before it began")
        try:
            self._scram.set_server_final(body.decode())
        except (scramp.ScramException, ValueError) as error:
            raise AuthenticationError(
                f"the server could not prove that it knows the password: {error}"
            ) from None
        self._verified = self._has_authenticated = True
        return b""


class _Prepared(str):
    """A password that scramp hashes unchanged."""

    __slots__ = ()

    def __bytes__(self) -> bytes:
        return self.encode("utf-8", "surrogateescape")


def _prepared(secret: str) -> str:
    """The form of a password that PostgreSQL hashes (``src/common/saslprep.c``).

    A password that SASLprep refuses or turns into nothing stays unchanged. U+200B is in two tables
    of RFC 3454: PostgreSQL maps it to a space, others to nothing.
    """
    from scramp import ScramException  # noqa: PLC0415
    from scramp.utils import saslprep  # noqa: PLC0415

    try:
        return saslprep(secret.replace("\u200b", " ")) or secret
    except ScramException:
        return secret


_NO_HASH = (b"\x30\x05\x06\x03\x2b\x65\x70", b"\x30\x05\x06\x03\x2b\x65\x71")
"""AlgorithmIdentifier of Ed25519 and Ed448, in DER."""


def _signed_without_hash(tls: object) -> bool:
    """Whether RFC 5929 defines no ``tls-server-end-point`` for the connection's certificate."""
    certificate = getattr(tls, "getpeercert", None)
    der: bytes = (certificate(binary_form=True) if certificate is not None else None) or b""
    # The signature algorithm follows the first element of the outer sequence.
    start, _ = _content(der, 0)
    _, stop = _content(der, start)
    return der.startswith(_NO_HASH, stop)


def _content(der: bytes, pos: int) -> tuple[int, int]:
    """Where the content of a DER element starts and stops."""
    start = pos + 2
    length = int.from_bytes(der[pos + 1 : start], "big")
    if length & 0x80:
        more = length & 0x7F
        length = int.from_bytes(der[start : start + more], "big")
        start += more
    return start, start + length
