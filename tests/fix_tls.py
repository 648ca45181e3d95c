"""Certificates of every kind a TLS test wants, made once for the session.

def test_it(postgres_factory, certificates):
    server = postgres_factory(tls=certificates.server_tls(), hba=["hostssl all all 127.0.0.1/32
    scram-sha-256"]) connect(server, rootcert=certificates.ca)
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_PASSWORD = "nudge"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key, PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """`ca` signed all of them but `untrusted`, which comes from `other_ca`."""

    ca: Path
    other_ca: Path
    server: Pair  # for localhost and 127.0.0.1
    wrong_host: Pair  # for db.example.invalid
    expired: Pair
    untrusted: Pair
    ed25519: Pair  # self-signed: its signature algorithm has no hash for channel binding
    rsa_pss: Pair  # self-signed with RSA-PSS and SHA-384
    client: Pair  # for the role `postgres`
    client_encrypted: Pair  # the same, its key encrypted with KEY_PASSWORD
    wrong_client: Pair  # for the role `postgres`, from other_ca
    crl: Path  # of `ca`; revokes `revoked`
    revoked: Pair

    def server_tls(self, pair: Pair | None = None) -> tuple[Path, Path, Path]:
        """What Postgres(tls=…) takes; client certificates are checked against `ca`."""
        pair = pair or self.server
        return pair.cert, pair.key, self.ca


class _Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = _build(_name(name), _name(name), self.key, self.key, authority=True)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        common_name: str = "localhost",
        hosts: Sequence[str] = (),
        *,
        client: bool = False,
        expired: bool = False,
        password: str | None = None,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _build(
            _name(common_name), self.cert.subject, key, self.key,
            hosts=hosts, client=client, expired=expired,
        )  # fmt: skip
        return _write(self.folder, name, cert, key, password)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    signer: PrivateKey,
    *,
    hosts: Sequence[str] = (),
    authority: bool = False,
    client: bool = False,
    expired: bool = False,
    pss: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    end = now - dt.timedelta(days=1) if expired else now + dt.timedelta(days=7)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    if not authority:
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return builder.sign(signer, None)
    if pss:
        assert isinstance(signer, rsa.RSAPrivateKey)
        scheme = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
        return builder.sign(signer, hashes.SHA384(), rsa_padding=scheme)
    return builder.sign(signer, hashes.SHA256())


def _write(
    folder: Path, name: str, cert: x509.Certificate, key: PrivateKey, password: str | None = None
) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    pair.key.chmod(0o600)
    return pair


def _self_signed(folder: Path, name: str, key: PrivateKey, *, pss: bool = False) -> Pair:
    subject = _name("localhost")
    cert = _build(subject, subject, key, key, hosts=["localhost", "127.0.0.1"], pss=pss)
    return _write(folder, name, cert, key)


def make_certificates(folder: Path) -> Certificates:
    ca = _Authority(folder, "ca")
    other = _Authority(folder, "other-ca")
    local = ["localhost", "127.0.0.1"]
    revoked = ca.issue("revoked", hosts=local)
    return Certificates(
        ca=ca.file,
        other_ca=other.file,
        server=ca.issue("server", hosts=local),
        wrong_host=ca.issue("wrong-host", "db.example.invalid", ["db.example.invalid"]),
        expired=ca.issue("expired", hosts=local, expired=True),
        untrusted=other.issue("untrusted", hosts=local),
        ed25519=_self_signed(folder, "ed25519", ed25519.Ed25519PrivateKey.generate()),
        rsa_pss=_self_signed(folder, "rsa-pss", rsa.generate_private_key(65537, 2048), pss=True),
        client=ca.issue("client", "postgres", client=True),
        client_encrypted=ca.issue(
            "client-encrypted", "postgres", client=True, password=KEY_PASSWORD
        ),
        wrong_client=other.issue("wrong-client", "postgres", client=True),
        crl=_revoke(ca, revoked),
        revoked=revoked,
    )


def _revoke(authority: _Authority, pair: Pair) -> Path:
    now = dt.datetime.now(dt.UTC)
    serial = x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.cert.subject)
        .last_update(now - dt.timedelta(days=1))
        .next_update(now + dt.timedelta(days=7))
        .add_revoked_certificate(entry)
        .sign(authority.key, hashes.SHA256())
    )
    path = authority.folder / "ca.crl"
    path.write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))
