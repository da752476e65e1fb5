"""What all works share: trees, a place to work, rounds, the report."""

import os

from measure import Failed, Samples, run
from peers import Landfall
from report import Report


class Bench:
    def __init__(self, disk, program, operations, rounds):
        self.disk = disk
        self.trees = f"{disk}/trees"
        self.work = f"{disk}/work"
        self.program = program
        self.operations = operations
        self.rounds = rounds
        self.report = Report()
        # The highest of each kind of command, MiB.
        self.peaks = {}
        self.clean()

    def tree(self, name, version):
        return f"{self.trees}/{name}-v{version}"

    def landfall(self, work=None):
        return Landfall(work or self.work, self.program)

    def measure(self, command, kind=None, **where):
        """One run of a command; landfall's own are remembered by their kind of work, for the rows on memory."""
        sample = run(command, log=f"{self.work}/log", **where)
        if kind:
            self.peaks[kind] = max(self.peaks.get(kind, 0), sample.peak)
        return sample

    def interleaved(self, contestants):
        """Every contestant once, then again: what slows the machine down slows all of them.

        `contestants` maps a name to (rounds or None, function of one run). Gives the samples by name.
        """
        samples = {name: Samples() for name in contestants}
        for number in range(self.rounds):
            for name, (most, once) in contestants.items():
                if number < (most or self.rounds):
                    samples[name].add(once())
        return samples

    def clean(self):
        """For the next work. What was freed goes back to the disk that holds the image, where it can."""
        run(f"rm -rf {self.work} && mkdir -p {self.work}; fstrim {self.disk} || true")

    def can(self, *words):
        """Whether this landfall has a command: what is not built yet is said, not hidden."""
        try:
            run(" ".join([self.program, *words, "--help"]))
            return True
        except Failed:
            return False


def remove(*paths):
    run("rm -rf " + " ".join(paths))


def exists(path):
    return os.path.exists(path)
