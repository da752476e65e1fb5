"""The table: printed as it grows, and written into docs/benchmarks.md at the end."""

from dataclasses import dataclass

BEGIN = "<!-- bench/peers writes from here -->"
END = "<!-- to here -->"


@dataclass
class Row:
    work: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: bool | None

    def cells(self):
        verdict = {True: "met", False: "**missed**", None: "–"}[self.met]
        return [self.work, self.ours, self.peer, self.ratio, self.target, verdict]


def seconds(samples):
    return f"{samples.wall:.2f} s ({samples.cpu:.2f})"


def size(count):
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count} B"


class Report:
    def __init__(self):
        self.rows = []
        self.notes = []

    def _add(self, row):
        self.rows.append(row)
        print("| " + " | ".join(row.cells()) + " |", flush=True)

    def time(self, work, ours, peer_name, peer, limit=None):
        """Medians of wall time against a peer of the same rounds; processor seconds stand in brackets."""
        ratio = ours.wall / peer.wall
        self._add(Row(
            work, seconds(ours), f"{peer_name}: {seconds(peer)}{few(peer, ours)}",
            f"{ratio:.2f} ({ours.cpu / peer.cpu:.2f})", f"≤ {limit} ×" if limit else "–",
            ratio <= limit if limit else None))

    def bytes_ratio(self, work, ours, peer_name, peer, limit):
        self._add(Row(work, size(ours), f"{peer_name}: {size(peer)}", f"{ours / peer:.2f}", f"≤ {limit} ×", ours <= limit * peer))

    def bytes_limit(self, work, ours, peers, limit, requests=None):
        """Bytes against a bound, with what the peers need beside it."""
        beside = ", ".join(f"{name} {size(count)}" for name, count in peers)
        asked = f" in {requests} requests" if requests else ""
        self._add(Row(work, size(ours) + asked, beside or "–", "–", f"≤ {size(limit)}", ours <= limit))

    def amount_limit(self, work, ours, unit, limit, peers="–"):
        self._add(Row(work, f"{ours:.3g} {unit}", peers, "–", f"≤ {limit} {unit}", ours <= limit))

    def missing(self, work, why):
        self._add(Row(work, "not measured", why, "–", "–", False))

    def note(self, text):
        self.notes.append(text)
        print(text, flush=True)

    def markdown(self, facts):
        lines = ["", facts, "", "| work | landfall | peer | ratio | target | |", "|---|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.rows]
        lines += [""] + [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def write(self, path, facts):
        """Replaces what stands between the markers."""
        with open(path) as page:
            text = page.read()
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
        with open(path, "w") as page:
            page.write(before + BEGIN + "\n" + self.markdown(facts) + END + after)


def few(peer, ours):
    return f", n = {len(peer)}" if len(peer) < len(ours) else ""
