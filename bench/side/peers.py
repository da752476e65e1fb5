"""What people would use instead: one class for each peer, the same few verbs, the commands as anyone would type them.

`work` is a directory of its own on the measured file system. Verbs return the shell line that is measured; what
must be there before is made by `prepare…`, which nobody measures.
"""

import json
import os

from measure import run, tree_bytes


class Peer:
    name = ""
    # Runs in a full benchmark: the slowest are run less often, which the table says.
    rounds = 5

    def __init__(self, work):
        self.work = os.path.join(work, self.name)
        self.clear()

    def clear(self):
        run(f"rm -rf {self.work} && mkdir -p {self.work}")

    def stored(self):
        return tree_bytes(self.work)


class Tar(Peer):
    """An archive for each version."""

    name = "tar-zstd"

    def pack(self, tree, version):
        return f"tar -C {tree} --sort=name -cf - . | zstd -T0 -3 -q -f -o {self.work}/{version}.tar.zst"

    def patch_setup(self, tree, version):
        run(f"tar -C {tree} --sort=name --mtime=@1 --owner=0 --group=0 -cf {self.work}/{version}.tar .")

    def patch(self, base, version):
        at = self.work
        return f"zstd -3 -q -f --long=31 --patch-from={at}/{base}.tar {at}/{version}.tar -o {at}/patch"


class Git(Peer):
    name = "git"
    ENV = "GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@b GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@b"

    def clear(self):
        super().clear()
        run(f"git init -q --bare {self.work}/repo && git -C {self.work}/repo config gc.auto 0")

    def pack(self, tree, version):
        git = f"{self.ENV} git -C {self.work}/repo --work-tree={tree}"
        return f"{git} add -A -f . && {git} commit -q --allow-empty -m {version} && git -C {self.work}/repo tag -f {version}"

    def fetch(self, version):
        return f"git -C {self.work}/host -c fetch.unpackLimit=1 fetch -q --no-tags origin tag {version}"


class Casync(Peer):
    name = "casync"
    rounds = 3
    FLAGS = "--with=permissions --with=symlinks"

    def pack(self, tree, version):
        return f"casync make {self.FLAGS} --store={self.work}/store.castr {self.work}/{version}.caidx {tree}"

    def extract(self, version, to, seed):
        return f"casync extract --store={self.work}/store.castr --seed={seed} {self.work}/{version}.caidx {to}"


class Restic(Peer):
    name = "restic"
    rounds = 3

    def __init__(self, work):
        self.env = f"RESTIC_PASSWORD=x RESTIC_CACHE_DIR={work}/restic/cache restic -q -r {work}/restic/repo"
        super().__init__(work)

    def clear(self):
        super().clear()
        run(f"{self.env} init --repository-version 2")

    def pack(self, tree, version):
        return f"cd {tree} && {self.env} backup --tag {version} ."

    def check(self):
        return f"{self.env} check --read-data"

    def stored(self):
        return tree_bytes(f"{self.work}/repo")


class Borg(Peer):
    name = "borg"
    rounds = 3

    def __init__(self, work):
        self.env = f"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes BORG_BASE_DIR={work}/borg/base borg"
        super().__init__(work)

    def clear(self):
        super().clear()
        run(f"{self.env} init -e none {self.work}/repo")

    def pack(self, tree, version):
        return f"cd {tree} && {self.env} create --compression zstd,3 {self.work}/repo::{version} ."

    def check(self):
        return f"{self.env} check --verify-data {self.work}/repo"

    def stored(self):
        return tree_bytes(f"{self.work}/repo")


class Bupstash(Peer):
    name = "bupstash"
    rounds = 3

    def __init__(self, work):
        self.env = f"BUPSTASH_REPOSITORY={work}/bupstash/repo BUPSTASH_KEY={work}/bupstash/key bupstash"
        super().__init__(work)

    def clear(self):
        super().clear()
        run(f"bupstash new-key -o {self.work}/key && {self.env} init")

    def pack(self, tree, version):
        return f"{self.env} put -q --send-log {self.work}/send.log name={version} {tree}"

    def stored(self):
        return tree_bytes(f"{self.work}/repo")


class Squashfs(Peer):
    name = "squashfs"
    rounds = 3

    def pack(self, tree, version):
        return (f"rm -f {self.work}/{version}.sqfs && mksquashfs {tree} {self.work}/{version}.sqfs "
                "-comp zstd -Xcompression-level 3 -all-root -all-time 0 -no-progress -quiet")

    def materialise(self, version, to):
        return f"unsquashfs -q -n -d {to} {self.work}/{version}.sqfs"


class Ostree(Peer):
    name = "ostree"
    # Half a minute each.
    rounds = 1
    COMMIT = "--canonical-permissions --no-xattrs --no-bindings --timestamp=2026-01-01T00:00:00Z"

    def clear(self):
        super().clear()
        run(f"ostree --repo={self.work}/server init --mode=archive && ostree --repo={self.work}/host init --mode=bare-user-only")

    def pack(self, tree, version):
        return f"ostree --repo={self.work}/server commit -b {version} {self.COMMIT} --tree=dir={tree} >/dev/null"

    def delta(self, base, version):
        repo = f"ostree --repo={self.work}/server"
        return (f"{repo} static-delta generate --inline --filename={self.work}/{base}-{version}.delta "
                f"--from=$({repo} rev-parse {base}) --to=$({repo} rev-parse {version})")

    def pull(self, version):
        return f"ostree --repo={self.work}/host pull-local {self.work}/server {version}"

    def materialise(self, version, to):
        return f"ostree --repo={self.work}/host checkout -U -H {version} {to}"


class Landfall(Peer):
    """The program that is measured. Its store is a directory, which the web server of `servers.py` serves."""

    name = "landfall"
    RECIPE = 'app = "bench"\nversion = "0"\n\n[[layer]]\nname = "app"\nfiles = [{ from = ".", to = "" }]\n'

    def __init__(self, work, program):
        self.program = program
        super().__init__(work)

    def clear(self):
        super().clear()
        with open(f"{self.work}/landfall.toml", "w") as recipe:
            recipe.write(self.RECIPE)

    @property
    def store(self):
        return f"{self.work}/store"

    def pack(self, tree, version):
        return (f"{self.program} pack {tree} --recipe {self.work}/landfall.toml --version {version} "
                f"--store {self.store} --root {self.work}/root")

    @property
    def served(self):
        """The store that hosts fetch from."""
        return f"{self.work}/served"

    def push(self, version, deltas=True):
        """From the build machine's own store; against the version before it, a delta is made."""
        flag = "" if deltas else " --no-delta"
        return f"{self.program} push {version} --app bench --root {self.work}/root --store {self.store} --to {self.served}{flag}"

    def stored(self):
        return tree_bytes(self.store)

    def host(self, store, user="nobody"):
        """A host that fetches from `store`. With a user of its own for the app, releases are linked."""
        host = f"{self.work}/host"
        run(f"rm -rf {host} && mkdir -p {host}")
        with open(f"{host}/host.toml", "w") as config:
            config.write(f'host = "bench"\nenvironment = "prod"\nstore = "{store}"\n\n[state]\nfile = "{host}/state.json"\n')
            if user:
                config.write(f'\n[apps.bench]\nuser = "{user}"\n')
        with open(f"{host}/state.json", "w") as state:
            state.write('{"apiVersion": "landfall/v1", "apps": {}}\n')
        return host

    def on_host(self, arguments):
        host = f"{self.work}/host"
        return (f"cd {host} && {self.program} {arguments} --config {host}/host.toml --root {host}/root "
                f"--state {host}/state.json")

    def release(self, version):
        """By id, as a state file names it."""
        with open(f"{self.store}/refs/bench/{version}.json") as reference:
            artifact = json.load(reference)["artifact"]
        return self.on_host(f"release {artifact} --app bench --env prod --skip-pm2")

    def current(self):
        return f"{self.work}/host/root/apps/bench/prod/current"
