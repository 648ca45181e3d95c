"""The client's half of authentication against scramp's own server half, and against liars."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from struct import pack

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import AuthenticationError, PgNudgeError, ProtocolError
from django_pgnudge.wire import Credentials
from django_pgnudge.wire.auth import MAX_ITERATIONS, Authenticator

USER, PASSWORD = "jane", "correct horse"
CERTIFICATE_HASH = b"\x17" * 32
# scramp takes the hash itself in place of the connection it would read the certificate from.
TLS = CERTIFICATE_HASH
BINDING = ("tls-server-end-point", CERTIFICATE_HASH)
PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"


def client(
    password: str | None = PASSWORD, tls: object | None = None, binding: str = "prefer"
) -> Authenticator:
    return Authenticator(Credentials(USER, password, tls, binding))  # type: ignore[arg-type]


def request(code: int, rest: bytes = b"") -> bytes:
    return pack("!I", code) + rest


def sasl(*mechanisms: str) -> bytes:
    return request(10, b"".join(name.encode() + b"\0" for name in mechanisms) + b"\0")


def password_of(message: bytes) -> bytes:
    assert message[:1] == b"p"
    assert message[-1:] == b"\0"
    return message[5:-1]


class Server:
    """A server that knows a password, by scramp; the mechanism is what the client chose."""

    def __init__(self, password: str = PASSWORD, binding: tuple[str, bytes] | None = None) -> None:
        self.password = password
        self.binding = binding
        self.chosen = ""

    def first(self, initial: bytes) -> bytes:
        name, _, rest = initial[5:].partition(b"\0")
        self.chosen = name.decode()
        self.client_first = rest[4:].decode()
        assert int.from_bytes(rest[:4], "big") == len(self.client_first)
        mechanism = scramp.ScramMechanism(self.chosen)
        info = mechanism.make_auth_info(self.password)
        self.scram = mechanism.make_server(lambda user: info, channel_binding=self.binding)
        self.scram.set_client_first(self.client_first)
        return request(11, self.scram.get_server_first().encode())

    def final(self, response: bytes) -> bytes:
        self.scram.set_client_final(response[5:].decode())
        return request(12, self.scram.get_server_final().encode())


def run(auth: Authenticator, server: Server, *offered: str) -> str:
    answer = auth.answer(sasl(*offered))
    answer = auth.answer(server.first(answer))
    assert auth.answer(server.final(answer)) == b""
    assert not auth.done
    assert auth.answer(request(0)) == b""
    assert auth.done
    return server.client_first


def test_trust_needs_no_password() -> None:
    auth = client(password=None)
    assert auth.answer(request(0)) == b""
    assert auth.done


def test_scram_proves_both_sides() -> None:
    server = Server()
    assert run(client(), server, PLAIN).startswith("n,,")
    assert server.chosen == PLAIN


def test_scram_binds_to_the_channel_where_the_server_offers_it() -> None:
    server = Server(binding=BINDING)
    first = run(client(tls=TLS), server, PLUS, PLAIN)
    assert first.startswith("p=tls-server-end-point,,")
    assert server.chosen == PLUS


def test_without_tls_nothing_is_bound() -> None:
    server = Server()
    assert run(client(), server, PLUS, PLAIN).startswith("n,,")
    assert server.chosen == PLAIN


def test_a_client_that_could_have_bound_says_so() -> None:
    assert run(client(tls=TLS), Server(), PLAIN).startswith("y,,")


def test_a_server_whose_offer_was_cut_by_someone_between_refuses() -> None:
    with pytest.raises(scramp.ScramException, match="channel binding"):
        run(client(tls=TLS), Server(binding=BINDING), PLAIN)


def test_a_channel_with_another_certificate_is_noticed() -> None:
    elsewhere = Server(binding=("tls-server-end-point", b"\x18" * 32))
    with pytest.raises(scramp.ScramException, match="channel bindings don't match"):
        run(client(tls=TLS), elsewhere, PLUS, PLAIN)


def test_disabled_binding_is_not_used() -> None:
    server = Server()
    assert run(client(tls=TLS, binding="disable"), server, PLUS, PLAIN).startswith("n,,")
    assert server.chosen == PLAIN


def test_required_binding_is_used() -> None:
    server = Server(binding=BINDING)
    run(client(tls=TLS, binding="require"), server, PLUS, PLAIN)
    assert server.chosen == PLUS


@pytest.mark.parametrize(
    ("tls", "body", "why"),
    [
        (None, sasl(PLUS, PLAIN), "has no TLS"),
        (TLS, sasl(PLAIN), "does not offer it"),
        (TLS, request(0), "without it"),
        (TLS, request(3), "has none"),
        (TLS, request(5, b"salt"), "has none"),
    ],
)
def test_required_binding_refuses_everything_else_and_sends_nothing(
    tls: object, body: bytes, why: str
) -> None:
    with pytest.raises(AuthenticationError, match=why):
        client(tls=tls, binding="require").answer(body)


def test_a_wrong_password_is_found_out_by_the_server() -> None:
    with pytest.raises(scramp.ScramException):
        run(client(password="wrong"), Server(), PLAIN)


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    auth, server = client(), Server(password="another")
    answer = auth.answer(server.first(auth.answer(sasl(PLAIN))))
    assert answer
    with pytest.raises(AuthenticationError, match="could not prove"):
        auth.answer(request(12, b"v=" + base64.b64encode(b"\0" * 32)))


@pytest.mark.parametrize("after", ["first", "challenge"])
def test_a_server_that_skips_its_proof_is_refused(after: str) -> None:
    auth, server = client(), Server()
    answer = auth.answer(sasl(PLAIN))
    if after == "challenge":
        auth.answer(server.first(answer))
    with pytest.raises(AuthenticationError, match="without proving"):
        auth.answer(request(0))
    assert not auth.done


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 99, 0xFFFFFFFF])
def test_no_other_request_may_come_in_the_middle_of_scram(code: int) -> None:
    auth = client(tls=TLS)
    auth.answer(sasl(PLAIN))
    with pytest.raises(ProtocolError, match="in the middle of SCRAM"):
        auth.answer(request(code, b"salt"))


@pytest.mark.parametrize("code", [11, 12])
def test_scram_begins_at_its_beginning(code: int) -> None:
    with pytest.raises(ProtocolError, match="before it began"):
        client().answer(request(code, b"r=x"))


def test_the_steps_of_scram_come_in_order_and_once() -> None:
    auth = client()
    auth.answer(sasl(PLAIN))
    with pytest.raises(AuthenticationError):
        auth.answer(request(12, b"v=AAAA"))
    auth, server = client(), Server()
    challenge = server.first(auth.answer(sasl(PLAIN)))
    auth.answer(challenge)
    with pytest.raises(AuthenticationError, match="challenge is wrong"):
        auth.answer(challenge)


def challenge_with(auth: Authenticator, **fields: str) -> bytes:
    first = auth.answer(sasl(PLAIN))
    nonce = first.rpartition(b"r=")[2].decode()
    values = {"r": nonce + "server", "s": "c2FsdHNhbHRzYWx0", "i": "4096"} | fields
    return request(11, ",".join(f"{name}={value}" for name, value in values.items()).encode())


def test_a_challenge_made_by_hand_is_answered() -> None:
    auth = client()
    assert auth.answer(challenge_with(auth)).startswith(b"p")


@pytest.mark.parametrize("count", [MAX_ITERATIONS + 1, 10_000_000, int("9" * 30), int("9" * 4000)])
def test_absurd_iterations_are_refused(count: int) -> None:
    auth = client()
    challenge = challenge_with(auth, i=str(count))
    with pytest.raises(AuthenticationError, match="iterations"):
        auth.answer(challenge)


@pytest.mark.parametrize(
    "fields",
    [
        {"i": "9" * 5000},
        {"i": "4096,i=9999999"},
        {"i": "9999999,i=4096"},
        {"x": "1,i=9999999"},
        {"i": "0"},
        {"i": "-1"},
        {"i": "+4096"},
        {"i": "4_096"},
        {"i": "\u0664\u0660\u0669\u0666"},
        {"i": ""},
        {"i": "four"},
        {"r": "another nonce"},
        {"r": ""},
        {"s": "not base64!"},
        {"s": ""},
        {"m": "extension"},
        {"e": "other-error"},
    ],
)
def test_a_challenge_that_lies_is_refused(fields: dict[str, str]) -> None:
    auth = client()
    challenge = challenge_with(auth, **fields)
    if "m" in fields:
        challenge = challenge.replace(b"r=", b"m=extension,r=", 1)
    with pytest.raises(AuthenticationError):
        auth.answer(challenge)


@given(st.binary(max_size=80))
def test_any_challenge_is_answered_or_refused(data: bytes) -> None:
    for code in (11, 12):
        auth = client()
        auth.answer(sasl(PLAIN))
        with pytest.raises(AuthenticationError):
            auth.answer(request(code, data))


@given(st.binary(max_size=40))
def test_any_first_request_is_answered_or_refused(data: bytes) -> None:
    with contextlib.suppress(PgNudgeError):
        client(tls=TLS).answer(data)


@pytest.mark.parametrize("offered", [(), ("SCRAM-SHA-1",), ("OAUTHBEARER", "GSSAPI"), (PLUS,)])
def test_a_mechanism_nobody_here_speaks_is_named(offered: tuple[str, ...]) -> None:
    with pytest.raises(AuthenticationError, match="SCRAM-SHA-256") as caught:
        client().answer(sasl(*offered))
    for name in offered:
        assert name in str(caught.value)


def test_cleartext_goes_through_tls_only() -> None:
    assert password_of(client(tls=TLS).answer(request(3))) == PASSWORD.encode()
    with pytest.raises(AuthenticationError, match="unencrypted") as caught:
        client().answer(request(3))
    assert PASSWORD not in str(caught.value)


def test_md5_goes_through_tls_only() -> None:
    inner = hashlib.md5((PASSWORD + USER).encode()).hexdigest()
    expected = "md5" + hashlib.md5(inner.encode() + b"salt").hexdigest()
    assert password_of(client(tls=TLS).answer(request(5, b"salt"))) == expected.encode()
    with pytest.raises(AuthenticationError, match="unencrypted"):
        client().answer(request(5, b"salt"))


@pytest.mark.parametrize("salt", [b"", b"abc", b"abcde"])
def test_an_md5_salt_has_four_bytes(salt: bytes) -> None:
    with pytest.raises(ProtocolError, match="salt"):
        client(tls=TLS).answer(request(5, salt))


@pytest.mark.parametrize("body", [request(3), request(5, b"salt"), sasl(PLAIN)])
def test_a_missing_password_is_named_with_its_role(body: bytes) -> None:
    with pytest.raises(AuthenticationError, match="'jane', and no password is configured"):
        client(password=None, tls=TLS).answer(body)


@pytest.mark.parametrize(("code", "name"), [(2, "Kerberos"), (7, "GSSAPI"), (9, "SSPI"), (8, "8")])
def test_other_methods_are_refused_by_name(code: int, name: str) -> None:
    with pytest.raises(AuthenticationError, match=name):
        client().answer(request(code))


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0"])
def test_a_request_has_a_code(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="too short"):
        client().answer(body)


def test_credentials_do_not_show_their_secrets() -> None:
    assert PASSWORD not in repr(Credentials(USER, PASSWORD, tls=object()))


def test_a_certificate_that_cannot_be_bound_to_is_used_without_binding_unless_required() -> None:
    # Anything but bytes and an ssl object makes scramp refuse the binding.
    unbound = object()
    assert run(client(tls=unbound), Server(), PLUS, PLAIN).startswith("n,,")
    with pytest.raises(AuthenticationError, match="SCRAM cannot start"):
        client(tls=unbound, binding="require").answer(sasl(PLUS, PLAIN))
