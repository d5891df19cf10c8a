"""TLS 1.3 between nodes, both ways; and towards clients.

A validator's certificate is self-signed with its own Ed25519 key and has no free choice in it: the same key
always gives the same bytes (Ed25519 is deterministic, serial and validity are fixed). It stands in the genesis,
so there is no authority to trust: a peer is whoever proves the key of a certificate that the genesis names.

A node that doesn't vote is known by its key alone, which nobody need have heard of. TLS wants a certificate to come
from somewhere it trusts, so there is an authority that gives one to everybody: its private key follows from the chain
id. What such a certificate proves is what its handshake proves: that the other side holds this key, and nothing more.
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

from lockstep.base.digest import digest
from lockstep.base.errors import ConfigurationError
from lockstep.base.keys import PrivateKey
from lockstep.wire.genesis import Genesis, Validator

NOT_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, section 4.1.2.5: the date for "no well-defined expiration"."""


def make_certificate(key: PrivateKey) -> bytes:
    """The validator's certificate, DER. The same key gives the same bytes."""
    return _issue(key.public, key)


def observers_authority(chain_id: bytes) -> bytes:
    """The certificate, DER, of the authority of this chain's observers."""
    key = _authority_key(chain_id)
    return _issue(key.public, key, is_authority=True)


def make_observer_certificate(key: PrivateKey, chain_id: bytes) -> bytes:
    """The certificate, DER, of a node that doesn't vote. The same key gives the same bytes."""
    return _issue(key.public, _authority_key(chain_id))


def _authority_key(chain_id: bytes) -> PrivateKey:
    """Known to everybody, on purpose."""
    return PrivateKey(digest(b"lockstep/observers/1" + chain_id))


def _issue(subject: bytes, issuer: PrivateKey, is_authority: bool = False) -> bytes:
    public, private = Ed25519PublicKey.from_public_bytes(subject), Ed25519PrivateKey.from_private_bytes(issuer.seed)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=is_authority, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    roles = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer.public))
        .public_key(public)
        .serial_number(1)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(roles, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, None)
    )
    return certificate.public_bytes(Encoding.DER)


def _name(public: bytes) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, public.hex())])


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


def peer_server_context(
    key: PrivateKey, certificates: Iterable[bytes], own: bytes | None = None
) -> ssl.SSLContext:  # fmt: skip
    """Accepts connections that prove the key of one of `certificates` (DER), or of one that is issued by one of them.
    `own`: the certificate to show, if not a validator's."""
    return _identified(_context(ssl.PROTOCOL_TLS_SERVER, certificates), key, own)


def peer_client_context(
    key: PrivateKey, certificates: Iterable[bytes], own: bytes | None = None
) -> ssl.SSLContext:  # fmt: skip
    """Dials servers that prove such a key; which one is checked after the handshake."""
    return _identified(_context(ssl.PROTOCOL_TLS_CLIENT, certificates), key, own)


def trust_certificate(validator: Validator, *contexts: ssl.SSLContext) -> None:
    """From now on, believe a validator that joined the chain; raises `ConfigurationError` when its certificate is not
    for its key."""
    if certificate_key(validator.certificate) != validator.public_key:
        raise ConfigurationError("its TLS certificate is for another key")
    for context in contexts:
        context.load_verify_locations(cadata=validator.certificate)


def client_server_context(key: PrivateKey) -> ssl.SSLContext:
    """Accepts anybody's connection; proves the node's own key."""
    return _identified(_bare(ssl.PROTOCOL_TLS_SERVER), key, None)


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


def _identified(context: ssl.SSLContext, key: PrivateKey, own: bytes | None) -> ssl.SSLContext:
    """Give `context` the key and its certificate. OpenSSL wants a file: one in memory, that no disk ever sees."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    certificate = x509.load_der_x509_certificate(own or make_certificate(key))
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
