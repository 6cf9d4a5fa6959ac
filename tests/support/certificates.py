"""A throw-away authority of certificates for users: good ones, those that are over, revoked ones, proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

INHERIT_ALL = "1.3.6.1.5.5.7.21.1"
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"
INDEPENDENT = "1.3.6.1.5.5.7.21.2"
_PROXY_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
_POLICIES = {
    INHERIT_ALL: "300c300a06082b06010505071501",
    LIMITED: "300f300d060b2b060104019b5001010109",
    INDEPENDENT: "300c300a06082b06010505071502",
}
_HOUR = timedelta(hours=1)
_ORGANISATION = [(NameOID.COUNTRY_NAME, "XX"), (NameOID.ORGANIZATION_NAME, "VO")]


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, and what is sent along with it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        """Itself."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, path: Path) -> Path:
        """Write itself, its key and its chain, as `vos --certfile` takes it."""
        blobs = [one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain)]
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(b"".join([blobs[0], key, *blobs[1:]]))
        return path

    def proxy(self, number: str = "123456", *, policy: str = INHERIT_ALL) -> Certificate:
        """Make a proxy certificate (RFC 3820) of it."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject
        subject = x509.Name([*issuer, x509.NameAttribute(NameOID.COMMON_NAME, number)])
        info = x509.UnrecognizedExtension(_PROXY_INFO, bytes.fromhex(_POLICIES[policy]))
        builder = _builder(subject, issuer, key, ends=_HOUR).add_extension(info, critical=True)
        return Certificate(builder.sign(self.key, hashes.SHA256()), key, (self.certificate, *self.chain))


@dataclass(frozen=True)
class Authority:
    """An authority."""

    name: str = "Test CA"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def subject(self) -> x509.Name:
        """Its name."""
        return x509.Name([x509.NameAttribute(*one) for one in [*_ORGANISATION, (NameOID.COMMON_NAME, self.name)]])

    def write(self, path: Path) -> Path:
        """Write its certificate."""
        builder = _builder(self.subject, self.subject, self.key, ends=24 * _HOUR, ca=True)
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def user(
        self, name: str, *, begins: timedelta = -_HOUR, ends: timedelta = _HOUR, names: Sequence[str] = ()
    ) -> Certificate:
        """Certify a user; `names` stand in his name behind that one."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [*_ORGANISATION, *((NameOID.COMMON_NAME, one) for one in (name, *names))]
        subject = x509.Name([x509.NameAttribute(*one) for one in parts])
        builder = _builder(subject, self.subject, key, begins=begins, ends=ends)
        return Certificate(builder.sign(self.key, hashes.SHA256()), key)

    def revoke(self, path: Path, *revoked: Certificate) -> Path:
        """Write a list of revoked certificates."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self.subject, now - _HOUR, now + _HOUR)
        for one in revoked:
            number = one.certificate.serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder(serial_number=number, revocation_date=now - _HOUR).build()
            )
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    begins: timedelta = -_HOUR,
    ends: timedelta,
    ca: bool = False,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(usage, critical=True)
    )
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True) if ca else builder
