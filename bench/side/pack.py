"""On the build machine: first packs, stored bytes, repacks, the pack of a fresh checkout."""

from bench import remove
from measure import run, tree_bytes
from peers import Borg, Bupstash, Casync, Git, Ostree, Restic, Squashfs, Tar


def first(bench):
    for tree, limit in (("nest", 0.75), ("nextapp", 1.0)):
        source = bench.tree(tree, 1)
        ours, tar = bench.landfall(), Tar(bench.work)
        others = [kind(bench.work) for kind in (Squashfs, Bupstash, Casync, Restic, Borg, Ostree)]

        def fresh(peer):
            def once():
                peer.clear()
                # Nobody pays for what those before pushed out of the kernel's caches.
                run(f"find {source} -type f -print0 | xargs -0 cat >/dev/null")
                return bench.measure(peer.pack(source, "v1"), "push" if peer is ours else None)
            return once

        samples = bench.interleaved({peer.name: (peer.rounds, fresh(peer)) for peer in (tar, ours, *others)})
        report = bench.report
        report.time(f"first pack of {tree}", samples["landfall"], "`tar \\| zstd -3 -T0`", samples[tar.name], limit)
        for other in others:
            report.time(f"first pack of {tree}", samples["landfall"], other.name, samples[other.name])
        report.bytes_ratio(f"stored bytes of {tree}", ours.stored(), "`tar \\| zstd -3`", tar.stored(), 1.1)
        bench.clean()


def repack(bench):
    source = bench.tree("nest", 1)
    ours, git, bupstash = bench.landfall(), Git(bench.work), Bupstash(bench.work)
    for peer in (ours, git, bupstash):
        run(peer.pack(source, "v1"), log=f"{bench.work}/log")
    # Twice more: files that were young when they were first read are not in a stat cache yet.
    run(ours.pack(source, "v1"))
    samples = bench.interleaved({
        "find": (None, lambda: bench.measure(f"find {source} -printf '%p %s %T@ %i\\n' >/dev/null")),
        "landfall": (None, lambda: bench.measure(ours.pack(source, "v1"), "push")),
        "git": (None, lambda: bench.measure(git.pack(source, "v1"))),
        "bupstash": (None, lambda: bench.measure(bupstash.pack(source, "v1"))),
    })
    report = bench.report
    report.time("repack of nest, nothing touched", samples["landfall"], "`find -printf`", samples["find"], 1.3)
    report.time("repack of nest, nothing touched", samples["landfall"], "git add, commit", samples["git"])
    report.time("repack of nest, nothing touched", samples["landfall"], "bupstash", samples["bupstash"])
    bench.clean()


def fresh_checkout(bench):
    """As CI does: the same path, every mtime and inode new, three files changed."""
    checkout = f"{bench.work}/checkout"

    def check_out(version):
        remove(checkout)
        run(f"cp -rP {bench.tree('nest', version)} {checkout}")

    ours = bench.landfall()
    git, tar, casync, restic = (kind(bench.work) for kind in (Git, Tar, Casync, Restic))
    ostree = Ostree(bench.work)
    check_out(1)
    # Each begins its round with what it had after v1.
    for peer in (ours, git, casync, restic, ostree):
        run(peer.pack(checkout, "v1"), log=f"{bench.work}/log")
        run(f"cp -a {peer.work} {peer.work}.v1")

    def from_v1(peer):
        def once():
            if peer is not tar:
                remove(peer.work)
                run(f"cp -al {peer.work}.v1 {peer.work}" if peer is ostree else f"cp -a {peer.work}.v1 {peer.work}")
            return bench.measure(peer.pack(checkout, "v2"), "push" if peer is ours else None)
        return once

    def new_checkout():
        check_out(2)
        return bench.measure("true")

    contestants = {"": (None, new_checkout)}
    contestants |= {peer.name: (peer.rounds, from_v1(peer)) for peer in (ours, git, tar, casync, restic, ostree)}
    samples = bench.interleaved(contestants)
    mine = samples["landfall"]
    work = "pack of nest v2 from a fresh checkout"
    bench.report.time(work, mine, "git add, commit", samples["git"], 0.3)
    bench.report.time(work, mine, "`tar \\| zstd -3 -T0`", samples[tar.name], 0.5)
    for peer in (casync, restic, ostree):
        bench.report.time(work, mine, peer.name, samples[peer.name])
    bench.clean()


WORKS = {"first-pack": first, "repack": repack, "checkout": fresh_checkout}
