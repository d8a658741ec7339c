"""The table of starve.h as the gate `starve` sees it: what has failed in which way, and what has ended a process."""
import json
import mmap
import pathlib
import re
import signal
import struct
import subprocess

PROGRAMS, FINDINGS, SLOTS = 30, 256, 1 << 17
AT_PROGRAMS = 256
AT_FINDINGS = AT_PROGRAMS + PROGRAMS * 256
AT_SLOTS = AT_FINDINGS + FINDINGS * 512
SIZE = AT_SLOTS + SLOTS * 80


def text(data):
    return data.split(b"\0", 1)[0].decode(errors="replace")


class Table:
    """Kept in DIRECTORY/NAME.table, with what the script adds in NAME.json; of one program, whose digest tells it from others."""

    def __init__(self, directory, name, digest):
        self.name, self.path, self.notes = name, directory / f"{name}.table", directory / f"{name}.json"
        kept = json.loads(self.notes.read_text()) if self.notes.exists() else {}
        if kept.get("program") != digest:
            kept = {"program": digest, "complete": False, "findings": [], "seen": 0}
            self.path.unlink(missing_ok=True)
        self.kept = kept
        with open(self.path, "a+b") as file:
            file.truncate(SIZE)
            self.map = mmap.mmap(file.fileno(), SIZE)

    @property
    def complete(self):
        return self.kept["complete"]

    @property
    def findings(self):
        return self.kept["findings"]

    def close(self):
        self.map.close()

    def begin(self, most, gap_ms, calm_ms=0):
        """From now on calls fail: so many in each process (0: any number), one in so many milliseconds, none in a process so young."""
        struct.pack_into("<Q", self.map, 48, int(calm_ms * 1e6))
        struct.pack_into("<IIQ", self.map, 0, 1, most, int(gap_ms * 1e6))

    def end(self):
        struct.pack_into("<I", self.map, 0, 0)

    def struck(self):
        return struct.unpack_from("<Q", self.map, 24)[0]

    def found(self, what):
        self.kept["findings"].append(what)

    def keep(self, complete):
        self.kept["complete"] = complete
        new = self.notes.with_suffix(".new")
        new.write_text(json.dumps(self.kept, indent=1))
        new.replace(self.notes)

    # --- what is in it ---

    def places(self, program, frames):
        """Frames as (function, file, line), innermost first."""
        addresses = [f"{frame - 1:#x}" for frame in frames if frame]
        path = text(self.map[AT_PROGRAMS + program * 256:AT_PROGRAMS + (program + 1) * 256])
        if not addresses or not pathlib.Path(path).exists():
            return []
        said = subprocess.run(["addr2line", "-fCe", path, *addresses], capture_output=True, text=True, check=False).stdout.splitlines()
        return [(function, *where.split(" ")[0].rsplit(":", 1)) for function, where in zip(said[::2], said[1::2])]

    def fault(self, slot):
        """A fault in words."""
        at = AT_SLOTS + slot * 80
        program, *frames = struct.unpack_from("<I4Q", self.map, at + 12)
        return f"{text(self.map[at + 48:at + 64])} in {text(self.map[at + 72:at + 80])}: {told(self.places(program, frames))}"

    def last(self):
        """What failed last, in any process."""
        return self.fault(struct.unpack_from("<I", self.map, 40)[0])

    def since(self, before, most=12):
        """The last faults behind the one with this number, in words."""
        orders = [struct.unpack_from("<Q", self.map, AT_SLOTS + slot * 80 + 64)[0] for slot in range(SLOTS)]
        slots = sorted((slot for slot in range(SLOTS) if orders[slot] > before), key=orders.__getitem__)[-most:]
        return "\n    ".join(self.fault(slot) for slot in slots)

    def new_findings(self):
        """What programs have noted since the last time. A test that goes on with what a fault has left it, and crashes, is none."""
        count = min(struct.unpack_from("<I", self.map, 32)[0], FINDINGS)
        for i in range(self.kept["seen"], count):
            at = AT_FINDINGS + i * 512
            number, _, program, slot = struct.unpack_from("<4I", self.map, at)
            frames, fault = (struct.unpack_from("<20Q", self.map, at + offset) for offset in (16, 176))
            if not number:
                lost, = struct.unpack_from("<q", self.map, at + 352)
                yield f"{lost} allocations lost with {text(self.map[at + 392:at + 448])}, after {self.fault(slot)}"
            elif self.caller(program, frames) == self.caller(program, fault):
                thread, library = text(self.map[at + 336:at + 352]), text(self.map[at + 360:at + 392])
                yield f"{thread}: {signal.Signals(number).name} at {library and library + ' < '}{told(self.places(program, frames))}, after {self.fault(slot)}"
        self.kept["seen"] = count

    def caller(self, program, frames):
        """Where a test called the program; None: there is no test."""
        places = self.places(program, frames)
        return next((frame for frame, (_, file, _) in zip(frames, places) if re.search("/tests/(?!gates/)", file)), None)


def told(places):
    return " < ".join(f"{function} ({pathlib.Path(file).name}:{line})" for function, file, line in places) or "?"
