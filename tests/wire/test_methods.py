"""wire/methods: require_auth as libpq reads it, and what the client answers under it."""

from __future__ import annotations

import contextlib
from struct import pack

import pytest

from django_pgnudge.errors import AuthenticationError, ConfigError
from django_pgnudge.wire import AcceptedMethods, Credentials
from django_pgnudge.wire.auth import Authenticator
from django_pgnudge.wire.methods import METHODS

REQUESTS = {
    "none": pack("!I", 0),
    "password": pack("!I", 3),
    "md5": pack("!I", 5) + b"salt",
    "gss": pack("!I", 7),
    "sspi": pack("!I", 9),
    "scram-sha-256": pack("!I", 10) + b"SCRAM-SHA-256\0\0",
}
SPOKEN = {"none", "password", "md5", "scram-sha-256"}


def client(require_auth: str | None) -> Authenticator:
    methods = AcceptedMethods.of(require_auth)
    return Authenticator(Credentials("jane", "secret", b"\x17" * 32, "disable", methods))


def accepted(require_auth: str | None) -> set[str]:
    """The requests that are answered."""
    found = set()
    for method, request in REQUESTS.items():
        with contextlib.suppress(AuthenticationError):
            client(require_auth).answer(request)
            found.add(method)
    return found


@pytest.mark.parametrize(
    ("require_auth", "expected"),
    [
        (None, SPOKEN),
        ("", SPOKEN),
        ("password", {"password"}),
        ("md5,scram-sha-256", {"md5", "scram-sha-256"}),
        ("none", {"none"}),
        ("none,scram-sha-256", {"none", "scram-sha-256"}),
        ("!none", SPOKEN - {"none"}),
        ("!password,!md5", {"none", "scram-sha-256"}),
        ("gss", set()),
        ("oauth", set()),
    ],
)
def test_a_request_for_another_method_is_refused_before_an_answer(
    require_auth: str | None, expected: set[str]
) -> None:
    assert accepted(require_auth) == expected


@pytest.mark.parametrize("method", ["password", "md5"])
def test_the_server_lets_in_after_the_method_that_is_required(method: str) -> None:
    asked = client(method)
    assert asked.answer(REQUESTS[method])[:1] == b"p"
    asked.answer(REQUESTS["none"])
    assert asked.done


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("password", "requested a cleartext password"),
        ("md5", "requested a hashed password"),
        ("gss", "requested GSSAPI authentication"),
        ("sspi", "requested SSPI authentication"),
        ("scram-sha-256", "requested SASL authentication"),
    ],
)
def test_a_refusal_has_the_words_of_libpq_and_no_password(method: str, words: str) -> None:
    with pytest.raises(AuthenticationError, match=f'requirement "none" failed: server {words}$'):
        client("none").answer(REQUESTS[method])


def test_a_server_that_lets_in_without_asking_has_not_done_what_is_required() -> None:
    with pytest.raises(AuthenticationError, match="server did not complete authentication"):
        client("scram-sha-256").answer(REQUESTS["none"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scram", "'scram' is not one of"),
        ("SCRAM-SHA-256", "is not one of"),
        ("md5, password", "' password' is not one of"),
        ("md5,,password", "'' is not one of"),
        ("!md5,password", "mixes"),
        ("md5,md5", "more than once"),
    ],
)
def test_what_libpq_refuses_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AcceptedMethods.of(text)


def test_a_method_that_is_excluded_leaves_all_others() -> None:
    assert AcceptedMethods.of("!none").accepted == set(METHODS) - {"none"}
