"""Many seeds, in several processes. A share of them runs twice, in processes with different `PYTHONHASHSEED`, and must
give the same audit hash both times."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RERUN_EVERY: Final = 8
"""One seed in so many runs twice."""
RUN_SECONDS_MAX: Final = 600.0
"""A run that takes longer hangs; that is a violation."""


@dataclass(frozen=True, slots=True)
class Job:
    """One seed of one profile."""

    seed: int
    profile: str
    validators: int
    seconds: int

    @property
    def command(self) -> str:
        """What reproduces it."""
        return (
            f"lockstep simulate --seed {self.seed} --profile {self.profile} --validators {self.validators} "
            f"--seconds {self.seconds}"
        )

    def as_json(self) -> dict[str, Any]:
        """As the worker reads it."""
        return {"seed": self.seed, "profile": self.profile, "validators": self.validators, "seconds": self.seconds}


@dataclass(slots=True)
class Tally:
    """What one kind of fault went with."""

    seeds: int = 0
    fired: int = 0
    events: int = 0
    violations: int = 0


@dataclass(slots=True)
class Report:
    """All runs of a campaign."""

    runs: int = 0
    reruns: int = 0
    void: int = 0
    events: int = 0
    commands: int = 0
    virtual_seconds: float = 0.0
    faults: dict[str, Tally] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    """{seed, profile, command, violations}."""

    def add(self, job: Job, result: dict[str, Any], again: dict[str, Any] | None) -> None:
        """Take one run, and its second run if there was one."""
        self.runs += 1
        violations = list(result.get("violations", ()))
        if "crashed" in result:
            violations.append({"name": "simulator", "text": result["crashed"], "at_us": 0})
        if again is not None:
            self.reruns += 1
            if again.get("audit_hash") != result.get("audit_hash"):
                text = f"audit hashes differ: {result.get('audit_hash')} and {again.get('audit_hash')}"
                violations.append({"name": "determinism", "text": text, "at_us": 0})
        self.void += bool(result.get("void"))
        self.events += result.get("events", 0)
        self.commands += result.get("commands_committed", 0)
        self.virtual_seconds += result.get("virtual_seconds", 0.0)
        for kind, count in result.get("faults", {}).items():
            tally = self.faults.setdefault(kind, Tally())
            tally.seeds += 1
            tally.fired += count
            tally.events += result["events"]
            tally.violations += bool(violations)
        for mark, count in result.get("marks", {}).items():
            self.marks[mark] = self.marks.get(mark, 0) + count
        if violations:
            self.failures.append(
                {"seed": job.seed, "profile": job.profile, "command": job.command, "violations": violations}
            )

    def as_json(self, never_reached: Sequence[str]) -> dict[str, Any]:
        """One object."""
        return {
            "runs": self.runs, "reruns": self.reruns, "void": self.void, "events": self.events,
            "commands_committed": self.commands, "virtual_seconds": round(self.virtual_seconds, 3),
            "faults": {kind: {"seeds": t.seeds, "fired": t.fired, "events": t.events, "violations": t.violations}
                       for kind, t in sorted(self.faults.items())},
            "marks": dict(sorted(self.marks.items())), "marks_never_reached": list(never_reached),
            "failures": self.failures,
        }  # fmt: skip


class _Process:
    """One worker process."""

    def __init__(self, hash_seed: int) -> None:
        self._hash_seed = hash_seed
        self._process: subprocess.Popen[str] | None = None

    def run(self, job: Job) -> dict[str, Any]:
        """Run one job; a process that hangs or dies is reported and replaced."""
        if self._process is None:
            environment = {**os.environ, "PYTHONHASHSEED": str(self._hash_seed)}
            command = [sys.executable, "-m", "lockstep.simulator.worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        watchdog = threading.Timer(RUN_SECONDS_MAX, process.kill)
        watchdog.start()
        try:
            process.stdin.write(json.dumps(job.as_json()) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            self.close()
            return {"seed": job.seed, "profile": job.profile, "crashed": "the worker died or took too long"}
        result: dict[str, Any] = json.loads(line)
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def campaign(jobs: Iterable[Job], workers: int, progress: Callable[[Job, dict[str, Any], Report], None]) -> Report:
    """Run all jobs; `progress` is called after each, from one thread at a time."""
    report = Report()
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    lock = threading.Lock()

    def work(number: int) -> None:
        first, second = _Process(2 * number + 1), _Process(2 * number + 2)
        try:
            while True:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                result = first.run(job)
                again = second.run(job) if job.seed % RERUN_EVERY == 0 else None
                with lock:
                    report.add(job, result, again)
                    progress(job, result, report)
        finally:
            first.close()
            second.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report
