"""landfall beside its peers. `bench/peers` prepares disk, trees and peers, and runs this."""

import argparse
import os
import platform
import subprocess
import sys
import time

import host
import insertions
import pack
import upgrade
from bench import Bench
from measure import Failed

WORKS = {**pack.WORKS, **upgrade.WORKS, **insertions.WORKS, **host.WORKS}
HERE = os.path.dirname(os.path.abspath(__file__))
# Kinds of landfall's own runs, with the MiB that each may take.
MEMORY = (("push", 256), ("push with a delta", 256), ("fetch", 64), ("fetch with a delta", 256), ("verify", 64))


def main():
    options = argparse.ArgumentParser(prog="bench/peers")
    options.add_argument("--disk", required=True)
    options.add_argument("--program", required=True)
    options.add_argument("--operations", required=True)
    options.add_argument("--quick", action="store_true", help="one round of everything: to see that it works")
    options.add_argument("--only", help="works, separated by commas: " + ", ".join(WORKS))
    options.add_argument("--docs", help="the page that gets the table")
    chosen = options.parse_args()
    names = chosen.only.split(",") if chosen.only else list(WORKS)
    unknown = [name for name in names if name not in WORKS]
    if unknown:
        options.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")

    began, load_before = time.monotonic(), os.getloadavg()[0]
    paths = (os.path.abspath(path) for path in (chosen.disk, chosen.program, chosen.operations))
    bench = Bench(*paths, rounds=1 if chosen.quick else 5)
    for name in names:
        print(f"\n{name}", file=sys.stderr, flush=True)
        try:
            WORKS[name](bench)
        except Failed as failed:
            # The other works are worth having; what failed counts as missed.
            bench.report.missing(name, str(failed))
    for kind, limit in MEMORY:
        if kind in bench.peaks:
            bench.report.amount_limit(f"peak memory, {kind}", bench.peaks[kind], "MiB", limit)
    minutes = (time.monotonic() - began) / 60
    facts = described(load_before, minutes, bench.rounds)
    print(f"\n{facts}\n")
    if chosen.docs and not chosen.quick and not chosen.only:
        bench.report.write(chosen.docs, facts)
    missed = [row.work for row in bench.report.rows if row.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "every target is met")


def described(load_before, minutes, rounds):
    def output(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip(" :")]
        return " ".join(lines[0].split())

    versions = [output("tar", "--version").split()[-1], output("zstd", "--version").split("v")[-1].split(",")[0]]
    others = [output(*command.split()) for command in (
        "rsync --version", "casync --version", "ostree --version", "restic version", "borg --version", "git --version",
        "mksquashfs -version", "bupstash --version", "b3sum --version", "nginx -v")]
    return (
        f"Commit {output('git', '-C', HERE, 'log', '-1', '--format=%h')}, {time.strftime('%Y-%m-%d')}. {os.cpu_count()} cores, Linux {platform.release()}, "
        f"{platform.machine()}; load {load_before:.1f} before, {os.getloadavg()[0]:.1f} after {minutes:.0f} minutes; "
        f"medians of {rounds} rounds where no n is given. tar {versions[0]}, zstd {versions[1]}, {'; '.join(others)}."
    )


if __name__ == "__main__":
    main()
