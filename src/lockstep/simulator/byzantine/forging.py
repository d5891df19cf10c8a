"""What a faulty validator can make with its own key: votes on anything, and blocks that were never built."""

from dataclasses import replace
from typing import Any, Final

import msgspec

from lockstep.base.digest import digest
from lockstep.base.keys import PrivateKey
from lockstep.wire.block import Header, decode_header, decode_payload
from lockstep.wire.message import Proposal
from lockstep.wire.vote import Finalize, Notarize, Nullify, Vote, sign_finalize, sign_notarize, sign_nullify

NOWHERE: Final = b"\xee" * 32
"""A digest of nothing."""


def notarize(key: PrivateKey, header: Header, signer: int) -> Notarize:
    """A notarize vote on a header."""
    return sign_notarize(key, header.chain_id, signer, header.view, header.digest)


def nullify(key: PrivateKey, chain_id: bytes, signer: int, view: int) -> Nullify:
    """A nullify vote."""
    return sign_nullify(key, chain_id, signer, view)


def other_roots(key: PrivateKey, chain_id: bytes, vote: Finalize) -> Finalize:
    """The same finalize vote, with roots that nothing gave."""
    return sign_finalize(key, chain_id, vote.signer, vote.view, vote.height, vote.block, NOWHERE, vote.event_root)


def signed_again(key: PrivateKey, chain_id: bytes, vote: Vote) -> Vote:
    """The vote with a signature that fits what it says now."""
    return msgspec.structs.replace(vote, signature=key.sign(vote.message(chain_id)))


def altered(key: PrivateKey, proposal: Proposal, signer: int, **changes: Any) -> Proposal:
    """The proposal with another header, and the notarize vote that belongs to it."""
    header = replace(decode_header(proposal.header), **changes)
    signature = notarize(key, header, signer).signature
    return Proposal(header.encode(), proposal.payload, signature, header.view, header.parent_view)


def with_payload(key: PrivateKey, proposal: Proposal, signer: int, payload: bytes, **changes: Any) -> Proposal:
    """The proposal with another payload."""
    header = replace(decode_header(proposal.header), payload=digest(payload), **changes)
    signature = notarize(key, header, signer).signature
    return Proposal(header.encode(), payload, signature, header.view, header.parent_view)


def without_bundles(key: PrivateKey, proposal: Proposal, signer: int) -> Proposal:
    """The same block without what it orders: valid as long as it is alone."""
    payload = msgspec.structs.replace(decode_payload(proposal.payload), bundles=b"")
    return with_payload(key, proposal, signer, payload.encode(), bundles=0, commands=0)


def doubled(key: PrivateKey, proposal: Proposal, signer: int) -> Proposal:
    """The block with its bundles twice."""
    payload = decode_payload(proposal.payload)
    header = decode_header(proposal.header)
    twice = msgspec.structs.replace(payload, bundles=payload.bundles * 2)
    return with_payload(
        key, proposal, signer, twice.encode(), bundles=2 * header.bundles, commands=2 * header.commands
    )  # fmt: skip
