"""Running a command and reading off the kernel what it cost."""

import os
import statistics
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Sample:
    """One run: seconds by the clock, seconds of processor time, peak memory in MiB of its largest process."""

    wall: float
    cpu: float
    peak: float


class Failed(Exception):
    """A command that did not succeed: its figures would mean nothing."""


def run(command, cwd=None, log="/dev/null", env=None):
    """Runs a shell line (bash, pipefail) after a `sync`, so that nobody pays for another's dirty pages.

    CPU and memory are those of the shell and of all it waited for, by wait4.
    """
    os.sync()
    with open(log, "ab") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    # wait4 took the status; Popen must not wait for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"`{command}` ended with {process.returncode}; {log} says why")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


class Samples:
    """Runs of one command on one tree; what is reported are medians."""

    def __init__(self):
        self.runs = []

    def add(self, sample):
        self.runs.append(sample)

    def __len__(self):
        return len(self.runs)

    def _median(self, field):
        return statistics.median(getattr(run, field) for run in self.runs)

    @property
    def wall(self):
        return self._median("wall")

    @property
    def cpu(self):
        return self._median("cpu")

    @property
    def peak(self):
        """The highest: a bound on memory is broken by one run."""
        return max(run.peak for run in self.runs)


def tree_bytes(*paths):
    """Bytes of the regular files at or below paths, each inode once: what a store holds."""
    seen, total = set(), 0
    for path in paths:
        if os.path.isfile(path):
            total += os.path.getsize(path)
        for directory, _, names in os.walk(path):
            for name in names:
                facts = os.lstat(os.path.join(directory, name))
                if (facts.st_dev, facts.st_ino) not in seen and not os.path.islink(os.path.join(directory, name)):
                    seen.add((facts.st_dev, facts.st_ino))
                    total += facts.st_size
    return total
