"""On the way: bytes that a host receives, and the time from v1 to a complete, linked v3."""

import os
import re

import servers
from bench import remove
from measure import run, tree_bytes
from peers import Borg, Casync, Git, Ostree, Restic, Tar

RSYNC = "rsync -rlpcz --zc=zstd --stats"


def pushed_in_turn(bench, ours, tree, to):
    """A store with v1, then `to`: the second push makes the delta between them, and is what is given back."""
    for version in (1, to):
        run(ours.pack(bench.tree(tree, version), f"v{version}"), log=f"{bench.work}/log")
    bench.measure(ours.push("v1"), "push")
    return bench.measure(ours.push(f"v{to}"), "push with a delta")


def received(bench, ours, to, kind):
    """What a host that has v1 receives to become v`to`, as the web server counts it."""
    with servers.web(ours.served, bench.work) as web:
        ours.host(web.url)
        bench.measure(ours.release("v1"), "fetch")
        web.forget()
        bench.measure(ours.release(f"v{to}"), kind)
        return web.counted()


def wire(bench):
    cases = [("nest", 2, 3_000, 60_000), ("nest", 3, 6_400_000, None),
             ("nextapp", 2, 80_000, None), ("nextapp", 3, 120_000, None)]
    for tree, to, limit, without in cases:
        ours = bench.landfall()
        made = pushed_in_turn(bench, ours, tree, to)
        requests, bodies, everything = received(bench, ours, to, "fetch with a delta")
        peers = peers_bytes(bench, tree, to)
        work = f"bytes received, {tree} v1 → v{to}"
        bench.report.bytes_limit(work, bodies, peers, limit, requests)
        bench.report.note(f"{work}: {everything} bytes with all headers of both directions.")
        if tree == "nest" and to == 3:
            bench.report.amount_limit("push of nest v3 with its delta, the whole command", made.cpu, "CPU-s", 3)
            bench.report.amount_limit("the same, peak memory", made.peak, "MiB", 256)
        if without:
            remove(f"{ours.served}/deltas", f"{ours.served}/hints")
            requests, bodies, _ = received(bench, ours, to, "fetch")
            bench.report.bytes_limit(f"{work}, all deltas deleted", bodies, [], without, requests)
        bench.clean()


def peers_bytes(bench, tree, to):
    """Bytes that each peer would transfer, each by its own count or by what its repository grew."""
    v1, new = bench.tree(tree, 1), bench.tree(tree, to)
    quiet = {"log": f"{bench.work}/log"}
    found = []

    ostree = Ostree(bench.work)
    run(ostree.pack(v1, "v1"), **quiet)
    run(ostree.pack(new, "new"), **quiet)
    run(ostree.delta("v1", "new"), **quiet)
    found.append(("ostree delta", os.path.getsize(f"{ostree.work}/v1-new.delta")))
    ostree.clear()

    git = Git(bench.work)
    run(git.pack(v1, "v1"), **quiet)
    run(f"git clone -q --bare --no-local file://{git.work}/repo {git.work}/host", **quiet)
    before = tree_bytes(f"{git.work}/host/objects")
    run(git.pack(new, "new"), **quiet)
    run(git.fetch("new"), **quiet)
    found.append(("git fetch", tree_bytes(f"{git.work}/host/objects") - before))
    git.clear()

    tar = Tar(bench.work)
    tar.patch_setup(v1, "v1")
    tar.patch_setup(new, "new")
    run(tar.patch("v1", "new"), **quiet)
    found.append(("zstd --patch-from", os.path.getsize(f"{tar.work}/patch")))
    tar.clear()

    for peer in (Casync(bench.work), Restic(bench.work), Borg(bench.work)):
        found.append((peer.name, growth(peer, v1, new, quiet)))

    found.append(("rsync", rsync_bytes(bench, v1, new)))
    return found


def growth(peer, v1, new, quiet):
    run(peer.pack(v1, "v1"), **quiet)
    before = peer.stored()
    run(peer.pack(new, "new"), **quiet)
    grown = peer.stored() - before
    peer.clear()
    return grown


def rsync_bytes(bench, v1, new):
    """What comes down; times and owners left out, which is what makes it cheapest here."""
    log = f"{bench.work}/rsync.log"
    remove(log)
    with servers.rsync(bench.trees, bench.work) as port:
        name = os.path.basename(new)
        run(f"{RSYNC} --link-dest={v1} rsync://127.0.0.1:{port}/in/{name}/ {bench.work}/rsync-new/", log=log)
    with open(log) as text:
        count = re.search(r"Total bytes received: ([\d,]+)", text.read()).group(1)
    remove(f"{bench.work}/rsync-new")
    return int(count.replace(",", ""))


def upgrade(bench):
    """v1 → v3 to a complete release, `current` switched; then the same behind a slow line."""
    ours, casync = bench.landfall(), Casync(bench.work)
    pushed_in_turn(bench, ours, "nest", 3)
    for version in (1, 3):
        run(casync.pack(bench.tree("nest", version), f"v{version}"), log=f"{bench.work}/log")
    v1, to = bench.tree("nest", 1), f"{bench.work}/arrived"

    def landfall_through(port):
        def once():
            ours.host(f"http://127.0.0.1:{port}")
            bench.measure(ours.release("v1"), "fetch")
            return bench.measure(ours.release("v3"), "fetch with a delta")
        return once

    def rsync_through(port):
        def once():
            remove(to)
            return bench.measure(f"{RSYNC} --link-dest={v1} rsync://127.0.0.1:{port}/in/nest-v3/ {to}/")
        return once

    def casync_once():
        remove(to)
        return bench.measure(casync.extract("v3", to, v1))

    with servers.web(ours.served, bench.work) as web, servers.rsync(bench.trees, bench.work) as rsync:
        samples = bench.interleaved({
            "landfall": (None, landfall_through(web.port)),
            "rsync --link-dest": (None, rsync_through(rsync)),
            "casync with seed": (casync.rounds, casync_once),
        })
        faster = min(("rsync --link-dest", "casync with seed"), key=lambda name: samples[name].wall)
        for name in ("rsync --link-dest", "casync with seed"):
            limit = 0.15 if name == faster else None
            bench.report.time("upgrade nest v1 → v3, loopback", samples["landfall"], name, samples[name], limit)
        with servers.slow(web.port) as web_line, servers.slow(rsync) as rsync_line:
            samples = bench.interleaved({
                "landfall": (None, landfall_near(ours, bench, web.port, web_line)),
                "rsync": (None, rsync_through(rsync_line)),
            })
        bench.report.time("the same at 50 ms and 20 Mbit/s", samples["landfall"], "rsync --link-dest", samples["rsync"], 0.35)
    bench.clean()


def landfall_near(ours, bench, near, far):
    """v1 comes quickly, which nobody measures; v3 comes through the slow line."""
    def once():
        host = ours.host(f"http://127.0.0.1:{near}")
        bench.measure(ours.release("v1"), "fetch")
        with open(f"{host}/host.toml") as config:
            text = config.read().replace(f":{near}\"", f":{far}\"")
        with open(f"{host}/host.toml", "w") as config:
            config.write(text)
        return bench.measure(ours.release("v3"), "fetch with a delta")
    return once


WORKS = {"wire": wire, "upgrade": upgrade}
