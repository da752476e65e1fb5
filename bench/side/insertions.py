"""Insertions in the middle of large binaries: ten files of 20 to 200 MB, 70 kB put into each."""

import os
import random

from bench import remove
from measure import run
from peers import Casync, Restic
from upgrade import growth, received, rsync_bytes, pushed_in_turn

FILES = [20 * (number + 1) for number in range(10)]
INSERTED = 70_000
MEGABYTE = 1_000_000


def make(bench):
    """Noise, the same on every machine: no compressor can hide what a delta misses."""
    for version in (1, 2):
        directory = bench.tree("binaries", version)
        os.makedirs(directory, exist_ok=True)
        for number, megabytes in enumerate(FILES):
            noise, inserted = random.Random(number), random.Random(f"inserted {number}").randbytes(INSERTED)
            with open(f"{directory}/part-{number}.bin", "wb") as out:
                for at in range(megabytes):
                    if version == 2 and at == megabytes // 2:
                        out.write(inserted)
                    out.write(noise.randbytes(MEGABYTE))


def insertions(bench):
    make(bench)
    ours = bench.landfall()
    quiet = {"log": f"{bench.work}/log"}
    v1, v2 = bench.tree("binaries", 1), bench.tree("binaries", 2)
    made = pushed_in_turn(bench, ours, "binaries", 2)
    before = dict(bench.peaks)
    requests, bodies, _ = received(bench, ours, 2, "fetch of insertions")
    peers = [(peer.name, growth(peer, v1, v2, quiet)) for peer in (Casync(bench.work), Restic(bench.work))]
    peers.append(("rsync", rsync_bytes(bench, v1, v2)))
    limit = len(FILES) * INSERTED * 3 // 2 + 100_000
    bench.report.bytes_limit("bytes received, 70 kB inserted in each of ten binaries", bodies, peers, limit, requests)
    fetched = bench.peaks["fetch of insertions"]
    # These have a bound of their own.
    bench.peaks = before
    bench.report.amount_limit("the same, peak memory of the push", made.peak, "MiB", 512)
    bench.report.amount_limit("the same, peak memory of the fetch", fetched, "MiB", 512)
    bench.clean()
    remove(v1, v2)


WORKS = {"insertions": insertions}
