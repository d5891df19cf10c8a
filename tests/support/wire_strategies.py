"""Hypothesis strategies for everything that travels: valid values, as wild as their types allow."""

from hypothesis import strategies as st

from lockstep.base.limits import BLOCK_BUNDLES_MAX, BLOCK_COMMANDS_MAX, INSTRUMENTS_MAX, PRICE_TICKS_MAX, VALIDATORS_MAX
from lockstep.wire import client, gossip, light, message, observer, stream
from lockstep.wire.block import HEADER_BYTES, Header, Payload
from lockstep.wire.certificate import Finalization, Notarization, Nullification
from lockstep.wire.vote import Finalize, Notarize, Nullify

U16 = st.integers(0, (1 << 16) - 1)
U63 = st.integers(0, (1 << 63) - 1)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
DIGEST = st.binary(min_size=32, max_size=32)
SIGNATURE = st.binary(min_size=64, max_size=64)
BLOB = st.binary(max_size=300)
TEXT = st.text(max_size=20)

NOTARIZE = st.builds(Notarize, U63, DIGEST, U63, SIGNATURE)
NULLIFY = st.builds(Nullify, U63, U63, SIGNATURE)
FINALIZE = st.builds(Finalize, U63, U63, DIGEST, DIGEST, DIGEST, U63, SIGNATURE)
VOTE = NOTARIZE | NULLIFY | FINALIZE

BITMAP = st.binary(max_size=VALIDATORS_MAX // 8)
SIGNATURES = st.lists(SIGNATURE, max_size=4).map(b"".join)
FINALIZATION = st.builds(Finalization, U63, U63, DIGEST, DIGEST, DIGEST, BITMAP, SIGNATURES)
CERTIFICATE = (
    st.builds(Notarization, U63, DIGEST, BITMAP, SIGNATURES)
    | st.builds(Nullification, U63, BITMAP, SIGNATURES)
    | FINALIZATION
)

HEADER = st.builds(
    Header, DIGEST, U63, U63, U63, U63, st.integers(0, VALIDATORS_MAX - 1), st.integers(0, BLOCK_BUNDLES_MAX),
    st.integers(0, BLOCK_COMMANDS_MAX), DIGEST, DIGEST, DIGEST, DIGEST,
)  # fmt: skip
BLOBS = st.lists(BLOB, max_size=4).map(tuple)
PAYLOAD = st.builds(Payload, st.lists(DIGEST, max_size=4).map(b"".join), BLOBS, BLOBS, BLOB)
RAW_HEADER = st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES)
TREE = st.integers(0, VALIDATORS_MAX - 1)
CHAIN_BLOCK = st.builds(message.ChainBlock, BLOB, BLOB, BLOBS)

STATE_REQUEST = st.builds(message.FetchCheckpoint, U63) | st.builds(
    message.FetchState, U63, U63, U63, st.integers(0, message.STATE_LEVEL_MAX),
    st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=4).map(b"".join), st.booleans(),
)  # fmt: skip
STATE_ANSWER = st.builds(message.CheckpointOffer, RAW_HEADER, FINALIZATION, BLOB) | st.builds(
    message.StatePart, U63, BLOB
)  # fmt: skip
MAYBE_FINALIZATION = st.none() | FINALIZATION
LIGHT_REQUEST = st.builds(light.AskLight, U63, U63)
VALIDATOR_LISTS = st.lists(st.tuples(DIGEST, U63), max_size=4)
LIGHT_REPLY = st.builds(
    lambda token, headers, finalization, shown, lowest, following: light.LightReply(
        token, headers, finalization, b"".join(k for k, _ in shown), tuple(s for _, s in shown), lowest,
        b"".join(k for k, _ in following), tuple(s for _, s in following),
    ),
    U63, st.lists(RAW_HEADER, max_size=3).map(tuple), MAYBE_FINALIZATION, VALIDATOR_LISTS, U63, VALIDATOR_LISTS,
)  # fmt: skip
MESSAGE = st.one_of(
    VOTE,
    CERTIFICATE,
    st.builds(message.Hello, U63, DIGEST, U63),
    st.builds(message.BundleBody, BLOB, st.none() | st.tuples(U63, U63, U63)),
    st.builds(message.Proposal, RAW_HEADER, BLOB, SIGNATURE, U63, U63),
    st.builds(message.FetchCertificates, U63, U63),
    st.builds(message.SetChangeBody, BLOB),
    st.builds(message.Certificates, st.lists(CERTIFICATE, max_size=4).map(tuple)),
    st.builds(message.FetchBundles, st.lists(DIGEST, min_size=1, max_size=4).map(b"".join)),
    st.builds(message.Bundles, BLOBS),
    st.builds(message.FetchBlock, DIGEST),
    st.builds(message.BlockBody, RAW_HEADER, BLOB),
    st.builds(message.FetchChain, U63),
    st.builds(message.Chain, st.lists(CHAIN_BLOCK, max_size=3).map(tuple), st.none() | FINALIZATION),
    st.builds(message.ObservationBody, BLOB),
    st.builds(message.Ping, U63, U63, U63),
    st.builds(message.AskPlain, st.booleans()),
    st.builds(message.PlainToken, st.just(b"") | st.binary(min_size=32, max_size=32)),
    st.builds(message.Pong, U63),
    STATE_REQUEST,
    STATE_ANSWER,
    LIGHT_REQUEST,
    LIGHT_REPLY,
    st.builds(observer.HelloObserver, U63, DIGEST, TEXT),
    st.builds(observer.Turned, TEXT, TEXT),
    st.builds(observer.Addresses, st.lists(TEXT, max_size=4).map(tuple)),
    st.builds(gossip.Push, TREE, BLOB),
    st.builds(gossip.IHave, TREE, st.lists(DIGEST, max_size=4).map(b"".join)),
    st.builds(gossip.Graft, TREE, st.lists(DIGEST, max_size=4).map(b"".join)),
    st.builds(gossip.Prune, TREE),
)

POINT = st.builds(stream.Point, U63, U63, U63)
CLOCK = st.lists(POINT, max_size=4).map(stream.clock_of)
U32 = st.integers(0, (1 << 32) - 1)
WHOLE = st.builds(lambda first, count: (first, first + count, b"", bytes(64 * count)), U16, st.integers(0, 3))
PICKED = st.builds(lambda first, count: (first, first + 9, bytes(4 * count), bytes(64 * count)), U16, st.integers(0, 3))
BLOCK_EVENTS = st.builds(
    lambda header, root, whole, rows, bundles, clock, settled, final: stream.BlockEvents(
        header, root, rows[0], rows[1], rows[1], whole, rows[2], rows[3], bytes(52 * bundles), clock, settled, final
    ),
    RAW_HEADER, DIGEST, st.just(True), WHOLE, st.integers(0, 3), CLOCK, st.booleans(), st.none() | FINALIZATION,
) | st.builds(
    lambda header, root, rows, clock: stream.BlockEvents(
        header, root, rows[0], rows[1], rows[1], False, rows[2], rows[3], b"", clock, True, None
    ),
    RAW_HEADER, DIGEST, PICKED, CLOCK,
)  # fmt: skip
LOCAL_EVENT = st.builds(stream.LocalEvent, U63, U63, U63, CLOCK, DIGEST, U63, U63, TEXT)

PRICES = st.lists(st.integers(0, PRICE_TICKS_MAX - 1), max_size=min(8, INSTRUMENTS_MAX)).map(tuple)
REQUEST = st.one_of(
    st.builds(client.Submit, BLOB),
    st.builds(client.AskFate, DIGEST),
    st.builds(client.AskAccount, U63),
    st.builds(client.AskStatus),
    st.builds(client.Subscribe, st.booleans(), st.booleans()),
    st.builds(client.PriceReport, U63, PRICES, SIGNATURE),
    LIGHT_REQUEST,
    st.builds(light.AskState, U63, st.sampled_from(light.Query), U63, U63),
    st.builds(light.AskOutcome, U63, DIGEST),
    st.builds(light.AskGenesis, U63),
    st.builds(
        stream.AskEvents, U63, U63, U63, U63, U63, st.lists(U32, max_size=4).map(tuple),
        st.integers(0, stream.WAIT_MS_MAX),
    ),
    st.builds(stream.After, U63, U63, CLOCK, BLOB),
    STATE_REQUEST,
)  # fmt: skip
INSTRUMENT = st.builds(client.InstrumentSummary, TEXT, I64, I64, I64, st.booleans(), I64, I64)
PEER = st.builds(client.PeerStatus, I64, st.booleans(), I64, I64, I64)
SYNC_PEER = st.builds(client.SyncPeer, I64, I64, I64, I64, I64, I64, TEXT)
SYNC = st.builds(
    client.SyncProgress, TEXT, I64, I64, I64, I64, I64, st.lists(SYNC_PEER, max_size=3).map(tuple)
)  # fmt: skip
ROW = st.builds(light.ShownRow, TEXT, U63, BLOB, BLOB)
PIECES = st.lists(st.builds(light.Piece, U63, U63, BLOB, BLOB), max_size=3).map(tuple)
REPLY = st.one_of(
    LIGHT_REPLY,
    st.builds(
        light.StateReply, U63, TEXT, RAW_HEADER, MAYBE_FINALIZATION, BLOB, st.lists(ROW, max_size=3).map(tuple)
    ),
    st.builds(light.OutcomeReply, U63, TEXT, RAW_HEADER, MAYBE_FINALIZATION, BLOB, PIECES, PIECES),
    st.builds(light.GenesisReply, U63, BLOB),
    st.builds(
        stream.EventBatch, U63, TEXT, U63, U63, U63, U63, U63, U63, TEXT,
        st.lists(BLOCK_EVENTS, max_size=2).map(tuple), st.lists(LOCAL_EVENT, max_size=3).map(tuple),
    ),
    st.builds(stream.Behind, U63, U63, CLOCK),
    STATE_ANSWER,
    st.builds(client.SubmitReply, DIGEST, TEXT, TEXT, U63, U63, U63, U63),
    st.builds(client.Fate, DIGEST, TEXT, I64, I64, TEXT, BLOB),
    st.builds(client.AccountReply, I64, st.booleans(), I64, I64),
    st.builds(client.BlockFinal, I64, I64, I64, DIGEST, DIGEST, DIGEST, I64, I64, I64),
    st.builds(client.Goodbye, TEXT, TEXT),
    st.builds(
        client.StatusReply, TEXT, I64, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple), I64, I64, I64, I64, I64,
        I64, I64, DIGEST, I64, I64, I64, I64, I64, st.lists(PEER, max_size=3).map(tuple),
        st.lists(INSTRUMENT, max_size=3).map(tuple), I64, I64, st.none() | SYNC,
    ),
)  # fmt: skip
