"""What each sslmode means, against a server with certificates of every kind."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.postgres import Postgres

from django_pgnudge.errors import AuthenticationError, ConnectionLostError, ServerError, TLSError
from django_pgnudge.feed import TLS, WalFeed
from django_pgnudge.feed.address import Address
from django_pgnudge.feed.connect import connect
from django_pgnudge.feed.connection import Connection
from django_pgnudge.wire import messages
from tests.feed.following import following
from tests.fix_servers import installations, missing
from tests.fix_tls import KEY_PASSWORD

from .encrypted import PASSWORD, address, encrypted, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fix_tls import Certificates, Pair

pytestmark = pytest.mark.usefixtures("home")

HBA = [
    "hostssl all scram 127.0.0.1/32 scram-sha-256",
    "hostnossl all scram 127.0.0.1/32 scram-sha-256",
    "host all prepared 127.0.0.1/32 scram-sha-256",
    "hostssl replication scram 127.0.0.1/32 scram-sha-256",
    "host all md5 127.0.0.1/32 md5",
    "host all clear 127.0.0.1/32 password",
    "hostssl all tlsonly 127.0.0.1/32 trust",
    "hostnossl all plainonly 127.0.0.1/32 trust",
    "hostssl all postgres 127.0.0.1/32 cert",
    "hostssl all verified 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
    "host all trusted 127.0.0.1/32 trust",
]
ROLES = ["scram", "md5", "clear", "tlsonly", "plainonly", "verified", "trusted", "prepared"]


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Postgres]:
    candidates = [each for each in installations() if each.bindir is not None and each.has_tls]
    if not candidates:
        pytest.skip(missing("tls"))
    best = max(candidates, key=lambda each: len(each.plugins))
    tls = certificates.server_tls()
    with Postgres(best, hba=HBA, tls=tls, in_memory=True) as running:
        for role in ROLES:
            encryption = "md5" if role == "md5" else "scram-sha-256"
            running.execute(
                f"SET password_encryption = '{encryption}';"
                f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}'"
            )
        yield running


def use_certificate(server: Postgres, pair: Pair) -> None:
    (server.data / "server.crt").write_bytes(pair.cert.read_bytes())
    (server.data / "server.key").write_bytes(pair.key.read_bytes())
    server.reload()


@pytest.fixture
def certified(server: Postgres, certificates: Certificates) -> Iterator[Callable[[Pair], None]]:
    """`certified(pair)`: the server with another certificate."""
    yield lambda pair: use_certificate(server, pair)
    use_certificate(server, certificates.server)


@pytest.mark.parametrize(
    ("mode", "user", "expected"),
    [
        ("disable", "trusted", False),
        ("allow", "trusted", False),
        ("allow", "tlsonly", True),
        ("allow", "clear", True),
        ("allow", "md5", True),
        ("prefer", "trusted", True),
        ("prefer", "plainonly", False),
        ("require", "trusted", True),
        ("require", "tlsonly", True),
    ],
)
async def test_a_mode_encrypts_as_libpq_means_it(
    server: Postgres, mode: str, user: str, expected: bool
) -> None:
    assert await encrypted(address(server, user, mode=mode)) is expected


@pytest.mark.parametrize(
    ("mode", "user"), [("disable", "tlsonly"), ("require", "plainonly"), ("require", "nobody")]
)
async def test_what_pg_hba_forbids_is_told(server: Postgres, mode: str, user: str) -> None:
    await refused(address(server, user, mode=mode), ServerError, "28000.*pg_hba")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_the_right_authority_and_host_are_accepted(
    server: Postgres, certificates: Certificates, mode: str
) -> None:
    ca = str(certificates.ca)
    assert await encrypted(address(server, mode=mode, rootcert=ca))
    assert await encrypted(address(server, mode=mode, rootcert=ca, host="localhost"))
    assert await encrypted(address(server, mode=mode, rootcert=ca, server_name="localhost"))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_the_wrong_authority_is_refused(
    server: Postgres, certificates: Certificates, mode: str
) -> None:
    await refused(
        address(server, mode=mode, rootcert=str(certificates.other_ca)), TLSError, "not accepted"
    )


async def test_a_preferred_connection_falls_back_where_the_authority_is_wrong(
    server: Postgres, certificates: Certificates
) -> None:
    assert not await encrypted(address(server, mode="prefer", rootcert=str(certificates.other_ca)))


async def test_verify_full_looks_at_the_name(server: Postgres, certificates: Certificates) -> None:
    ca = str(certificates.ca)
    wrong = {"rootcert": ca, "server_name": "db.example.invalid"}
    await refused(address(server, mode="verify-full", **wrong), TLSError, "not accepted.*example")
    assert await encrypted(address(server, mode="verify-ca", **wrong))


async def test_a_certificate_for_another_host(
    certified: Callable[[Pair], None], server: Postgres, certificates: Certificates
) -> None:
    certified(certificates.wrong_host)
    ca = str(certificates.ca)
    await refused(address(server, mode="verify-full", rootcert=ca), TLSError, "127.0.0.1")
    assert await encrypted(address(server, mode="verify-ca", rootcert=ca))
    assert await encrypted(
        address(server, mode="verify-full", rootcert=ca, server_name="db.example.invalid")
    )


async def test_an_expired_certificate_is_refused_where_it_is_verified(
    certified: Callable[[Pair], None], server: Postgres, certificates: Certificates
) -> None:
    certified(certificates.expired)
    ca = str(certificates.ca)
    await refused(address(server, mode="verify-ca", rootcert=ca), TLSError, "expired")
    assert await encrypted(address(server, mode="require"))


async def test_a_revoked_certificate_is_refused_where_a_list_says_so(
    certified: Callable[[Pair], None], server: Postgres, certificates: Certificates
) -> None:
    ca, crl = str(certificates.ca), str(certificates.crl)
    assert await encrypted(address(server, mode="verify-full", rootcert=ca, crl=crl))
    certified(certificates.revoked)
    assert await encrypted(address(server, mode="verify-full", rootcert=ca))
    await refused(address(server, mode="verify-full", rootcert=ca, crl=crl), TLSError, "revoked")


async def test_the_files_of_libpq_are_found(
    server: Postgres, certificates: Certificates, home: Path
) -> None:
    await refused(address(server, mode="verify-full"), TLSError, "sslrootcert")
    folder = home / ".postgresql"
    folder.mkdir()
    shutil.copy(certificates.other_ca, folder / "root.crt")
    await refused(address(server, mode="require"), TLSError, "not accepted")
    shutil.copy(certificates.ca, folder / "root.crt")
    assert await encrypted(address(server, mode="verify-full"))
    shutil.copy(certificates.client.cert, folder / "postgresql.crt")
    shutil.copy(certificates.client.key, folder / "postgresql.key")
    assert await encrypted(address(server, "postgres", mode="require"))


async def test_a_client_certificate_logs_in(server: Postgres, certificates: Certificates) -> None:
    def with_pair(pair: Pair, **options: Any) -> Address:
        return address(
            server, options.pop("user", "postgres"), mode="require",
            cert=str(pair.cert), key=str(pair.key), **options,
        )  # fmt: skip

    assert await encrypted(with_pair(certificates.client))
    assert await encrypted(with_pair(certificates.client_encrypted, key_password=KEY_PASSWORD))
    assert await encrypted(with_pair(certificates.client, user="verified"))
    for password in (None, "wrong"):
        where = with_pair(certificates.client_encrypted, key_password=password)
        await refused(where, TLSError, "client certificate .* cannot be loaded")
    await refused(address(server, "postgres", mode="require"), ServerError, "28000")
    with pytest.raises((TLSError, ConnectionLostError)):
        await encrypted(with_pair(certificates.wrong_client))


@pytest.mark.parametrize("option", ["rootcert", "crl", "cert", "key"])
@pytest.mark.parametrize("content", [None, b"", b"not PEM"])
async def test_a_file_that_cannot_be_read_is_named(
    certificates: Certificates, tmp_path: Path, option: str, content: bytes | None
) -> None:
    path = tmp_path / "the-file"
    if content is not None:
        path.write_bytes(content)
    options: dict[str, Any] = {"rootcert": str(certificates.ca), option: str(path)}
    if option == "key":
        options["cert"] = str(certificates.client.cert)
    with pytest.raises(TLSError, match="the-file" if option != "key" else "client") as caught:
        TLS("verify-full", **options).make_context()
    assert "cannot be loaded" in str(caught.value)


@pytest.mark.parametrize("user", ["md5", "clear"])
async def test_a_password_that_can_be_read_goes_through_tls_only(
    server: Postgres, user: str
) -> None:
    assert await encrypted(address(server, user, mode="require"))
    await refused(address(server, user, mode="disable"), AuthenticationError, "unencrypted")


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_scram_works_with_and_without_tls(server: Postgres, mode: str) -> None:
    assert await encrypted(address(server, "scram", mode=mode)) is (mode == "require")


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "emoji \U0001f600",
        "a\u200bb",
        "soft\u00adhyphen",
        "\u00ad",
        "no\u00a0break",
        "bell\x07",
        "e\u0301 and \u2168",
        "\u0627abc",
        "private \ue000",
    ],
    ids=ascii,
)
async def test_a_password_is_prepared_as_the_server_prepares_it(
    server: Postgres, password: str
) -> None:
    """Also those that SASLprep refuses."""
    server.execute(
        f"SET password_encryption = 'scram-sha-256';ALTER ROLE prepared PASSWORD '{password}'"
    )
    connection = await connect(
        address(server, "prepared", mode="disable", password=password), replication=False
    )
    await connection.close()
    other = address(server, "prepared", mode="disable", password=password + "x")
    await refused(other, ServerError, "password authentication failed")


@pytest.mark.parametrize("user", ["scram", "md5", "clear"])
async def test_a_wrong_password_is_told_by_its_code(server: Postgres, user: str) -> None:
    where = address(server, user, mode="require", password="wrong")
    await refused(where, ServerError, "28P01")
    await refused(address(server, user, mode="require", password=None), AuthenticationError, user)


async def test_a_database_that_is_not_there_is_told_by_its_code(server: Postgres) -> None:
    await refused(address(server, mode="disable", database="nowhere"), ServerError, "3D000")


@pytest.fixture
def mechanisms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SASL mechanisms that clients chose."""
    chosen: list[str] = []
    write = messages.sasl_initial_response

    def note(mechanism: str, data: bytes) -> bytes:
        chosen.append(f"{mechanism} {data[:1].decode()}")
        return write(mechanism, data)

    monkeypatch.setattr(messages, "sasl_initial_response", note)
    return chosen


@pytest.mark.parametrize(
    ("mode", "binding", "expected"),
    [
        ("require", "require", "SCRAM-SHA-256-PLUS p"),
        ("require", "prefer", "SCRAM-SHA-256-PLUS p"),
        ("require", "disable", "SCRAM-SHA-256 n"),
        ("disable", "prefer", "SCRAM-SHA-256 n"),
    ],
)
async def test_channel_binding_is_negotiated(
    server: Postgres, mechanisms: list[str], mode: str, binding: str, expected: str
) -> None:
    await encrypted(address(server, "scram", mode=mode, channel_binding=binding))
    assert mechanisms == [expected]


@pytest.mark.parametrize("user", ["md5", "clear", "trusted"])
async def test_required_channel_binding_accepts_nothing_else(server: Postgres, user: str) -> None:
    where = address(server, user, mode="require", channel_binding="require")
    await refused(where, AuthenticationError, "channel binding is required")


async def test_a_certificate_signed_with_rsa_pss_can_be_bound_to(
    certified: Callable[[Pair], None],
    server: Postgres,
    certificates: Certificates,
    mechanisms: list[str],
) -> None:
    certified(certificates.rsa_pss)
    assert await encrypted(address(server, "scram", mode="require", channel_binding="require"))
    assert mechanisms == ["SCRAM-SHA-256-PLUS p"]


async def test_a_certificate_signed_with_ed25519_is_used_without_binding(
    certified: Callable[[Pair], None],
    server: Postgres,
    certificates: Certificates,
    mechanisms: list[str],
) -> None:
    certified(certificates.ed25519)
    own = str(certificates.ed25519.cert)
    assert await encrypted(address(server, "scram", mode="verify-full", rootcert=own))
    assert mechanisms == ["SCRAM-SHA-256 n"]
    where = address(server, "scram", mode="require", channel_binding="require")
    await refused(where, AuthenticationError, "no hash")


async def test_a_server_without_tls_is_refused_where_tls_is_required(any_postgres: Any) -> None:
    if any_postgres.execute("SHOW ssl") != [("off",)]:
        pytest.skip("this server has TLS")
    for mode in ("require", "verify-ca", "verify-full"):
        where = address(any_postgres, any_postgres.user, mode=mode, rootcert=None)
        if mode != "require":
            where = address(
                any_postgres, any_postgres.user, mode=mode, rootcert=ssl.get_default_verify_paths()
                .openssl_cafile,
            )  # fmt: skip
        with pytest.raises(TLSError):
            await encrypted(where)
    for mode in ("allow", "prefer"):
        assert not await encrypted(address(any_postgres, any_postgres.user, mode=mode))


async def test_a_unix_socket_needs_no_tls(server: Postgres) -> None:
    for mode in ("disable", "verify-full"):
        where = address(server, "postgres", host=str(server.socket_dir), mode=mode)
        connection = await connect(where, replication=False)
        assert await connection.rows("SELECT inet_client_addr()") == ((None,),)
        await connection.close()
    nowhere = address(server, host=f"{server.socket_dir}/none", mode="disable")
    await refused(nowhere, ConnectionLostError, "cannot connect")


async def test_a_whole_feed_runs_through_tls_with_channel_binding(
    server: Postgres, certificates: Certificates, mechanisms: list[str]
) -> None:
    feed = WalFeed(
        host="localhost",
        port=server.port,
        user="scram",
        password=PASSWORD,
        database="postgres",
        plugin="test_decoding",
        ssl=TLS("verify-full", rootcert=str(certificates.ca), channel_binding="require"),
    )
    async with following(feed) as follower:
        assert follower.resyncs == ["connected"]
        assert feed.server_version == int(server.execute("SHOW server_version_num")[0][0])
    assert set(mechanisms) == {"SCRAM-SHA-256-PLUS p"}
    assert len(mechanisms) >= 2, "the second connection is bound too"


async def test_a_closed_connection_is_gone_from_the_server(server: Postgres) -> None:
    connection = await connect(address(server, mode="require"), replication=False)
    assert isinstance(connection, Connection)
    pid = connection.session.backend_pid
    await connection.close()
    assert isinstance(connection.closed.result(), ConnectionLostError)
    assert server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == [(0,)]
