"""TLS 1.3 between validators, pinned both ways; and towards clients.

A validator's certificate is self-signed with its own Ed25519 key and has no free choice in it: the same key
always gives the same bytes (Ed25519 is deterministic, serial and validity are fixed). It stands in the genesis,
so there is no authority to trust: a peer is whoever proves the key of a certificate that the genesis names.
"""

import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Genesis

NOT_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, section 4.1.2.5: the date for "no well-defined expiration"."""


def make_certificate(key: PrivateKey) -> bytes:
    """The validator's certificate, DER. The same key gives the same bytes."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    public = private.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.public.hex())])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    roles = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(roles, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, None)
    )
    return certificate.public_bytes(Encoding.DER)


def certificate_key(der: bytes) -> bytes:
    """The Ed25519 public key that a certificate is for; raises `ConfigurationError`."""
    try:
        public = x509.load_der_x509_certificate(der).public_key()
    except ValueError as error:
        raise ConfigurationError(f"a TLS certificate cannot be read: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigurationError("a validator's TLS certificate must be for an Ed25519 key")
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def check_certificates(genesis: Genesis) -> None:
    """Every validator's certificate must be for its own key; raises `ConfigurationError`."""
    for validator in genesis.validators:
        if certificate_key(validator.certificate) != validator.public_key:
            raise ConfigurationError(
                f"genesis is not valid: the TLS certificate of validator {validator.name} is for another key"
            )


def peer_server_context(key: PrivateKey, certificates: Iterable[bytes]) -> ssl.SSLContext:
    """Accepts connections that prove the key of one of `certificates` (DER)."""
    return _identified(_context(ssl.PROTOCOL_TLS_SERVER, certificates), key)


def peer_client_context(key: PrivateKey, certificates: Iterable[bytes]) -> ssl.SSLContext:
    """Dials servers that prove the key of one of `certificates` (DER); which one is checked after the handshake."""
    return _identified(_context(ssl.PROTOCOL_TLS_CLIENT, certificates), key)


def client_server_context(key: PrivateKey) -> ssl.SSLContext:
    """Accepts anybody's connection; proves the node's own key."""
    return _identified(_bare(ssl.PROTOCOL_TLS_SERVER), key)


def client_context(certificate: bytes | None) -> ssl.SSLContext:
    """For a client program: trusts exactly this certificate (DER). With None it talks to anybody: for a light client,
    which believes nothing that does not prove itself."""
    if certificate is None:
        context = _bare(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_mode = ssl.CERT_NONE
        return context
    return _context(ssl.PROTOCOL_TLS_CLIENT, (certificate,))


def _bare(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # identity is the pinned certificate, not a name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no resumption: every connection proves its key afresh
    return context


def _context(protocol: int, certificates: Iterable[bytes]) -> ssl.SSLContext:
    context = _bare(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the pinned leaf itself is the trust root
    for certificate in certificates:
        context.load_verify_locations(cadata=certificate)
    return context


def _identified(context: ssl.SSLContext, key: PrivateKey) -> ssl.SSLContext:
    """Give `context` the key and its certificate. OpenSSL wants a file: one in memory, that no disk ever sees."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    certificate = x509.load_der_x509_certificate(make_certificate(key))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(
        Encoding.PEM
    )
    file = os.memfd_create("key")
    try:
        os.write(file, pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context
