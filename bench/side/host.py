"""On the host: from its cache to a release, and proving that a release or a store is whole."""

from bench import remove
from measure import run
from peers import Borg, Ostree, Restic, Squashfs


def materialise(bench):
    source, to = bench.tree("nest", 1), f"{bench.work}/made"
    quiet = {"log": f"{bench.work}/log"}
    ours, ostree, squashfs = bench.landfall(), Ostree(bench.work), Squashfs(bench.work)
    run(ours.pack(source, "v1"), **quiet)
    run(ostree.pack(source, "v1"), **quiet)
    run(ostree.pull("v1"), **quiet)
    run(squashfs.pack(source, "v1"), **quiet)
    cache = f"--store {ours.store} --cache {bench.work}/cache"
    run(f"{bench.operations} fill {cache} bench v1", **quiet)

    def once(command):
        def one():
            remove(to)
            return bench.measure(command)
        return one

    made = f"{bench.operations} materialise {cache} --releases {to}"
    samples = bench.interleaved({
        "cp -al": (None, once(f"cp -al {source} {to}")),
        "landfall, links": (None, once(f"{made} --mode link bench v1")),
        "ostree checkout -H": (None, once(ostree.materialise("v1", to))),
        "cp -a": (None, once(f"cp -a {source} {to}")),
        "landfall, copies": (None, once(f"{made} --mode copy bench v1")),
        "unsquashfs": (None, once(squashfs.materialise("v1", to))),
        # The same, as durable as landfall's: it waits for the disk, `cp` and `unsquashfs` do not.
        "cp -a, sync": (None, once(f"cp -a {source} {to} && sync -f {to}")),
        "unsquashfs, sync": (None, once(f"{squashfs.materialise('v1', to)} && sync -f {to}")),
    })
    report, links, copies = bench.report, samples["landfall, links"], samples["landfall, copies"]
    for name, limit in (("cp -al", 0.55), ("ostree checkout -H", 0.55)):
        report.time("materialise nest, shared inodes", links, f"`{name}`", samples[name], limit)
    for name, limit in (("cp -a", 0.5), ("unsquashfs", 0.8), ("cp -a, sync", None), ("unsquashfs, sync", None)):
        report.time("materialise nest, private inodes", copies, f"`{name}`", samples[name], limit)
    bench.clean()


def verify(bench):
    source = bench.tree("nest", 1)
    quiet = {"log": f"{bench.work}/log"}
    ours, restic, borg = bench.landfall(), Restic(bench.work), Borg(bench.work)
    for peer in (ours, restic, borg):
        run(peer.pack(source, "v1"), **quiet)
    ours.host(ours.store)
    run(ours.release("v1"), **quiet)
    files = f"find {ours.current()}/ -type f -not -path '*/.landfall/*' -print0"
    samples = bench.interleaved({
        "b3sum": (None, lambda: bench.measure(f"{files} | xargs -0 -P 2 -n 8192 b3sum --num-threads 1 >/dev/null")),
        "landfall": (None, lambda: bench.measure(ours.on_host("verify --deep bench --env prod"), "verify")),
    })
    bench.report.time("deep verify of a release of nest", samples["landfall"], "`b3sum` on 2 cores", samples["b3sum"], 1.2)
    if not bench.can("store", "verify"):
        bench.report.missing("deep verify of a store of nest", "this landfall has no `store verify`")
        bench.clean()
        return
    samples = bench.interleaved({
        "landfall": (None, lambda: bench.measure(f"{bench.program} store verify --store {ours.store}", "verify")),
        "restic check": (restic.rounds, lambda: bench.measure(restic.check())),
        "borg check": (borg.rounds, lambda: bench.measure(borg.check())),
    })
    faster = min(("restic check", "borg check"), key=lambda name: samples[name].wall)
    for name in ("restic check", "borg check"):
        limit = 0.5 if name == faster else None
        bench.report.time("deep verify of a store of nest", samples["landfall"], name, samples[name], limit)
    bench.clean()


WORKS = {"materialise": materialise, "verify": verify}
