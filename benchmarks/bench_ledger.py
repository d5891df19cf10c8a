"""Prints the ledger's figures as JSON: `python benchmarks/bench_ledger.py`."""

import json

from lockstep.cli.benches.ledger import commitment, hashing

if __name__ == "__main__":
    print(json.dumps({"commitment": commitment(), "hashing": hashing()}, indent=2))
