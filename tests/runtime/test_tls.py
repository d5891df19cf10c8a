"""Certificates come from keys alone, and contexts trust nothing else."""

import ssl

import msgspec
import pytest

from lockstep.base.errors import ConfigurationError
from lockstep.runtime.tls import (
    certificate_key,
    check_certificates,
    client_server_context,
    make_certificate,
    peer_client_context,
    peer_server_context,
)
from tests.support.real_network import real_genesis, validator_key


def test_the_same_key_gives_the_same_certificate() -> None:
    one, other = make_certificate(validator_key(0)), make_certificate(validator_key(1))
    assert one == make_certificate(validator_key(0)) != other
    assert certificate_key(one) == validator_key(0).public


def test_a_certificate_for_another_key_is_refused_in_the_genesis() -> None:
    genesis = real_genesis(2)
    check_certificates(genesis)
    first, second = genesis.validators
    swapped = msgspec.structs.replace(first, certificate=second.certificate)
    with pytest.raises(ConfigurationError, match="validator-0 is for another key"):
        check_certificates(msgspec.structs.replace(genesis, validators=(swapped, second)))
    garbled = msgspec.structs.replace(first, certificate=b"not DER")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        check_certificates(msgspec.structs.replace(genesis, validators=(garbled, second)))


def test_contexts_speak_tls_1_3_only_and_between_peers_both_sides_prove_themselves() -> None:
    certificates = [make_certificate(validator_key(i)) for i in range(3)]
    server = peer_server_context(validator_key(0), certificates)
    client = peer_client_context(validator_key(1), certificates)
    public = client_server_context(validator_key(0))
    for context in (server, client, public):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert server.verify_mode == client.verify_mode == ssl.CERT_REQUIRED
    assert public.verify_mode == ssl.CERT_NONE
    assert server.cert_store_stats()["x509"] == client.cert_store_stats()["x509"] == 3
