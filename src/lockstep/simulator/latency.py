"""Tables of network delays, and how a delay is drawn from one. Integers throughout: microseconds, one way.

A table holds, for each ordered pair of places, four figures: min, avg, max and mdev. Of sixteen draws fifteen are
uniform in avg ± mdev and one is uniform in avg … max, both clipped to min … max: a body as wide as the table says,
and a thin tail. A pair with mdev 0 and max = avg has no jitter.

Measured tables are facts recorded by others and are not part of this project. They are read from a folder, by default
`../shared/data/latency` beside the checkout, when they are there:

- `aws`: 13 AWS regions, `aws_13_regions_one_way_ms.csv`, one way, whole milliseconds, no jitter;
- `cities`: 242 cities with jitter, `wonderproxy_242_cities_rtt_ms_2018-11.csv.gz`, round trips, halved here.

Otherwise made-up tables of the same shape stand in for them, and `Table.origin` says so. `lan` is always made up.
"""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from lockstep.base.errors import ConfigurationError

FOLDER: Final = Path(__file__).resolve().parents[4] / "shared" / "data" / "latency"
"""Where measured tables lie beside a checkout."""
_AWS: Final = "aws_13_regions_one_way_ms.csv"
_CITIES: Final = "wonderproxy_242_cities_rtt_ms_2018-11.csv.gz"
_TAIL: Final = 16
"""One draw in so many comes from the tail."""
NAMES: Final = ("aws", "cities", "lan")


class Link(NamedTuple):
    """One-way delays of an ordered pair of places, in microseconds."""

    min_us: int
    avg_us: int
    max_us: int
    mdev_us: int

    def draw_us(self, random: Random) -> int:
        """The delay of one message."""
        low, average, high, deviation = self
        if low == high:
            return average
        bits = random.getrandbits(48)
        share = bits // _TAIL  # of 2^44; one call for both: this is drawn for every message
        if bits % _TAIL:
            drawn = average - deviation + (share * (2 * deviation + 1) >> 44)
        else:
            drawn = average + (share * (high - average + 1) >> 44)
        return low if drawn < low else high if drawn > high else drawn


def steady(delay_us: int) -> Link:
    """A link without jitter."""
    return Link(delay_us, delay_us, delay_us, 0)


LOCAL: Final = Link(80, 120, 600, 30)
"""Two machines at one place, and every pair of a LAN."""


@dataclass(frozen=True, slots=True)
class Table:
    """Delays between nodes. Node i is at place `i mod len(places)`."""

    name: str
    origin: str
    """`measured, from <file>` or `synthetic`."""
    places: tuple[str, ...]
    links: tuple[tuple[Link, ...], ...]
    """`links[source place][target place]`."""

    def link(self, source: int, target: int) -> Link:
        """The link between two nodes; nodes that share a place are a LAN."""
        count = len(self.places)
        a, b = source % count, target % count
        return LOCAL if a == b else self.links[a][b]

    def one_way_us(self, source: int, target: int, random: Random) -> int:
        """The delay of one message from node `source` to node `target`, in microseconds."""
        return self.link(source, target).draw_us(random)

    def at(self, places: Sequence[int]) -> "Table":
        """The same table with node i at place `places[i]`."""
        names = tuple(self.places[place] for place in places)
        links = tuple(tuple(LOCAL if a == b else self.links[a][b] for b in places) for a in places)
        return Table(self.name, self.origin, names, links)

    @property
    def longest_us(self) -> int:
        """The longest average delay of any pair."""
        return max(link.avg_us for row in self.links for link in row)


def load(name: str, folder: Path = FOLDER) -> Table:
    """The table called `name`: measured if its file is in `folder`, else synthetic; raises `ConfigurationError`."""
    match name:
        case "aws":
            path = folder / _AWS
            return read_matrix(path) if path.is_file() else _synthetic("aws", 13, 5_000, 150_000, jitter=0)
        case "cities":
            path = folder / _CITIES
            return read_pairs(path) if path.is_file() else _synthetic("cities", 242, 500, 180_000, jitter=12)
        case "lan":
            return Table("lan", "synthetic", tuple(f"rack-{i}" for i in range(128)), ((LOCAL,) * 128,) * 128)
        case _:
            raise ConfigurationError(f"there is no latency table {name!r}; there are {', '.join(NAMES)}")


def read_matrix(path: Path) -> Table:
    """A square CSV with a header row and column: one-way milliseconds."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    links = tuple(tuple(steady(_microseconds(cell)) for cell in row[1:]) for row in rows)
    if len(links) != len(header) - 1 or any(len(row) != len(links) for row in links):
        raise ConfigurationError(f"{path} is not a square table")
    return Table("aws", f"measured, from {path.name}", tuple(header[1:]), links)


def read_pairs(path: Path) -> Table:
    """Rows of `src,dst,avg_ms,min_ms,max_ms,mdev_ms`, round trips. A pair that was never measured takes the figures
    of the opposite direction, or the median pair's when that is missing too."""
    found: dict[tuple[str, str], Link] = {}
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            low, average, high, deviation = (_microseconds(row[f"{k}_ms"]) // 2 for k in ("min", "avg", "max", "mdev"))
            found[row["src"], row["dst"]] = Link(low, min(max(average, low), high), high, deviation)
    names = tuple(sorted({place for pair in found for place in pair}))
    median = sorted(found.values(), key=lambda link: link.avg_us)[len(found) // 2]
    links = tuple(
        tuple(LOCAL if a == b else found.get((a, b), found.get((b, a), median)) for b in names) for a in names
    )
    return Table("cities", f"measured, from {path.name}", names, links)


def _microseconds(milliseconds: str) -> int:
    return int(Decimal(milliseconds) * 1000)


def _synthetic(name: str, places: int, nearest_us: int, farthest_us: int, *, jitter: int) -> Table:
    """Places on a circle: delay grows with the distance along it; `jitter` is mdev in percent of the delay."""
    half = places // 2

    def link(a: int, b: int) -> Link:
        apart = min((a - b) % places, (b - a) % places)
        average = nearest_us + (farthest_us - nearest_us) * apart // half
        if not jitter:
            return steady(average)
        deviation = average * jitter // 100
        return Link(average - 2 * deviation, average, 3 * average, deviation)

    names = tuple(f"{name}-{i}" for i in range(places))
    return Table(name, "synthetic", names, tuple(tuple(link(a, b) for b in range(places)) for a in range(places)))
