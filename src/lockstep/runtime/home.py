"""A node's home: the folder that holds everything that is its own.

genesis.json    the chain
key             the node's Ed25519 seed, hex, readable by its owner only
node.json       `NodeConfig`
log/ checkpoints/ history/     what the node writes
node.log  lock                 notes for people; held while a node runs
"""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lockstep.base.digest import short
from lockstep.base.errors import ConfigurationError, StorageFailed
from lockstep.base.keys import SEED_BYTES, PrivateKey
from lockstep.base.limits import VALIDATORS_MAX
from lockstep.node.context import NOT_A_VALIDATOR
from lockstep.node.retention import DAY_MS, KEEP_BLOCKS, KEEP_BLOCKS_MIN, KEEP_DAYS, Mode, Retention
from lockstep.runtime.address import parse_address
from lockstep.runtime.guests import OBSERVERS_LIMIT, OBSERVERS_MAX_DEFAULT, Admission, admission_of
from lockstep.runtime.tls import check_certificates
from lockstep.wire.genesis import Genesis, load_genesis

GENESIS_FILE: Final = "genesis.json"
KEY_FILE: Final = "key"
CONFIG_FILE: Final = "node.json"
SEAT_FILE: Final = "seat"
"""Index of a validator that joined a running chain; its home was an observer's until then."""
_KEEP_DAYS_MAX: Final = 36_500
_CHECKPOINTS_KEPT_MAX: Final = 64
_SEGMENT_MIB_MAX: Final = 1_024


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator decides."""

    peer_listen: str
    client_listen: str
    feed_key: bytes
    """Public key whose signed price reports this node believes (base64 in JSON)."""
    durability: str = "fsync"
    """fsync: what must be durable survives the machine. write: only the process, for trials."""
    clients_max: int = 256
    client_requests_per_second: int = 20_000
    retention: str = Mode.ARCHIVE.value
    """archive, full or pruned: see `node.retention`."""
    keep_days: float = KEEP_DAYS
    """full keeps blocks and events of so many days, pruned their certified headers."""
    keep_blocks: int = KEEP_BLOCKS
    """full and pruned keep this many blocks at least."""
    observer: bool = False
    """This node may have a key that is no validator's: it then follows without voting."""
    name: str = ""
    """Of an observer, for people."""
    announce: str = ""
    """Where others may dial an observer; empty: `peer_listen`, unless that is every address of the machine."""
    follow: tuple[str, ...] = ()
    """Peer addresses that an observer dials; empty: the validators'."""
    observers_max: int = OBSERVERS_MAX_DEFAULT
    """Observers that may connect to this node; 0: none."""
    observers_allowed: tuple[str, ...] = ()
    """Their public keys, in hex; empty: anybody."""
    metrics_listen: str = ""
    """host:port of the metrics and status documents, without TLS; empty: none."""
    metrics_prefix: str = "lockstep"
    """Of the metrics' names; `cometbft` lets dashboards made for it find what both have."""
    segment_mib: int = 64
    """Size of a file of the log and of the history: pruning takes away whole files."""
    checkpoints_kept: int = 2
    """The newest, and older ones that `lockstep rollback` can begin from."""

    @property
    def retention_rule(self) -> Retention:
        """What is kept."""
        return Retention(Mode(self.retention), int(self.keep_days * DAY_MS), self.keep_blocks)

    @property
    def segment_bytes(self) -> int:
        """A segment that holds a record is closed before it would grow beyond this."""
        return self.segment_mib << 20


@dataclass(frozen=True, slots=True)
class Home:
    """A home, read and checked."""

    path: Path
    genesis: Genesis
    key: PrivateKey
    index: int
    """The validator's; `NOT_A_VALIDATOR` for an observer."""
    config: NodeConfig

    @property
    def is_observer(self) -> bool:
        """Whether this node follows without voting."""
        return self.index == NOT_A_VALIDATOR

    @property
    def name(self) -> str:
        """The validator's name, or the observer's."""
        if self.is_observer:
            return self.config.name or f"observer-{short(self.key.public)}"
        if self.index >= len(self.genesis.validators):
            return self.config.name or f"validator-{self.index}"
        return self.genesis.validators[self.index].name

    @property
    def announce(self) -> str:
        """Where others may dial an observer; empty: nowhere."""
        host, _ = parse_address(self.config.peer_listen)
        return self.config.announce or ("" if host in ("0.0.0.0", "::") else self.config.peer_listen)

    @property
    def admission(self) -> Admission:
        """Which observers may connect to it."""
        return admission_of(self.config.observers_max, self.config.observers_allowed)

    @property
    def log(self) -> Path:
        """Folder of the log."""
        return self.path / "log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoint store."""
        return self.path / "checkpoints"

    @property
    def sets(self) -> Path:
        """Folder of the validator sets that were seen."""
        return self.path / "sets"

    @property
    def history(self) -> Path:
        """Folder of the event history."""
        return self.path / "history"


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a key file that only its owner can read; raises `ConfigurationError` when there is one already."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(key.seed.hex() + "\n")
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists already; a key is never overwritten") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write the key file {path}: {error.strerror}") from error


def read_key(path: Path) -> PrivateKey:
    """Read a key file; raises `ConfigurationError`."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"others can read the key file {path}: run chmod 600 {path}")
        seed = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise ConfigurationError(f"cannot read the key file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"the key file {path} must hold {SEED_BYTES} bytes in hex") from error
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"the key file {path} must hold {SEED_BYTES} bytes in hex, not {len(seed)}")
    return PrivateKey(seed)


def create_home(path: Path, genesis: Genesis, key: PrivateKey, config: NodeConfig) -> Home:
    """Make a home; raises `ConfigurationError` when there is one already, or something doesn't fit."""
    index = _index_of(genesis, key, config)
    _check_config(config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / CONFIG_FILE).exists() or (path / GENESIS_FILE).exists():
            raise ConfigurationError(f"{path} is a node's home already")
        if not (path / KEY_FILE).exists():
            write_key(path / KEY_FILE, key)
        elif read_key(path / KEY_FILE).seed != key.seed:
            raise ConfigurationError(f"{path / KEY_FILE} holds another key")
        (path / GENESIS_FILE).write_bytes(genesis.encode())
        (path / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot make a home in {path}: {error.strerror}") from error
    return Home(path, genesis, key, index, config)


def load_home(path: Path) -> Home:
    """Read and check a home; raises `ConfigurationError`."""
    if not path.is_dir():
        raise ConfigurationError(f"{path} is no folder; make a home with: lockstep init")
    genesis = load_genesis(path / GENESIS_FILE)
    check_certificates(genesis)
    key = read_key(path / KEY_FILE)
    try:
        config = msgspec.json.decode((path / CONFIG_FILE).read_bytes(), type=NodeConfig)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path / CONFIG_FILE}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path / CONFIG_FILE} is not valid: {error}") from error
    _check_config(config)
    index = _seat(path) if config.observer else None
    return Home(path, genesis, key, _index_of(genesis, key, config) if index is None else index, config)


def take_seat(home: Home, index: int) -> None:
    """This home's key has joined the chain's validators at this index: from the next start on it is theirs. Raises
    `StorageFailed`."""
    try:
        (home.path / SEAT_FILE).write_text(f"{index}\n")
    except OSError as error:
        raise StorageFailed(f"cannot write {home.path / SEAT_FILE}: {error.strerror}") from error


def _seat(path: Path) -> int | None:
    try:
        text = (path / SEAT_FILE).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path / SEAT_FILE}: {error.strerror}") from error
    if not text.isdecimal() or int(text) >= VALIDATORS_MAX:
        raise ConfigurationError(f"{path / SEAT_FILE} holds a validator's index, not {text!r}: delete it")
    return int(text)


def lock_home(home: Home) -> int:
    """Take the home for this process, until it ends. Returns the lock file's descriptor, which must stay open."""
    file = os.open(home.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(file, 32, 0).decode().strip() or "unknown"
        os.close(file)
        raise ConfigurationError(f"{home.path} is in use by process {holder}; one home, one process") from error
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def _index_of(genesis: Genesis, key: PrivateKey, config: NodeConfig) -> int:
    for index, validator in enumerate(genesis.validators):
        if validator.public_key == key.public:
            return index
    if config.observer:
        return NOT_A_VALIDATOR
    raise ConfigurationError(
        f"the key {key.public.hex()} is no validator's in the genesis {genesis.name!r}; a home that follows without "
        "voting is made with: lockstep init observer"
    )


def _check_config(config: NodeConfig) -> None:
    if config.metrics_listen:
        parse_address(config.metrics_listen)
    if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", config.metrics_prefix):
        raise ConfigurationError(f"metrics_prefix is letters, digits and _, not {config.metrics_prefix!r}")
    if not 1 <= config.segment_mib <= _SEGMENT_MIB_MAX:
        raise ConfigurationError(f"segment_mib is 1 to {_SEGMENT_MIB_MAX}, not {config.segment_mib}")
    if not 1 <= config.checkpoints_kept <= _CHECKPOINTS_KEPT_MAX:
        raise ConfigurationError(f"checkpoints_kept is 1 to {_CHECKPOINTS_KEPT_MAX}, not {config.checkpoints_kept}")
    parse_address(config.peer_listen)
    parse_address(config.client_listen)
    if config.durability not in ("fsync", "write"):
        raise ConfigurationError(f"durability is fsync or write, not {config.durability!r}")
    if config.clients_max < 1 or config.client_requests_per_second < 1:
        raise ConfigurationError("clients_max and client_requests_per_second must be positive")
    if config.retention not in list(Mode):
        raise ConfigurationError(f"retention is archive, full or pruned, not {config.retention!r}")
    if not 0 <= config.keep_days <= _KEEP_DAYS_MAX or config.keep_blocks < KEEP_BLOCKS_MIN:
        raise ConfigurationError(f"keep_days is 0 to {_KEEP_DAYS_MAX}, and keep_blocks at least {KEEP_BLOCKS_MIN}")
    if not 0 <= config.observers_max <= OBSERVERS_LIMIT:
        raise ConfigurationError(f"observers_max is 0 to {OBSERVERS_LIMIT}, not {config.observers_max}")
    for address in (*config.follow, *([config.announce] if config.announce else [])):
        parse_address(address)
    for key in config.observers_allowed:
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ConfigurationError(f"observers_allowed holds public keys, 64 hex digits each, not {key!r}")
