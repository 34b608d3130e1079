"""A disk as it could be after a power cut. Plays a record of what was done to a directory, and makes at any moment what
a disk may hold: all that was synced, and of the rest what it likes, sector by sector, name by name, in any order.

    write ──▶ the page has one more version ──▶ sync: the last version is on the disk, the others are gone
                                            ──▶ failed sync: any version may be on the disk, and no later sync of
                                                other pages changes that (the kernel takes such pages for written)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.chaos.record import Event, Kind

SECTOR_BYTES = 512  # that a disk writes whole or not at all
PAGE_BYTES = 4096  # that a kernel keeps track of
SHARES = (0.0, 0.05, 0.5, 0.95, 1.0)  # of what was not synced, that is on the disk all the same
UNSYNCED = ("-shm",)  # what SQLite makes anew after a power cut; it is written through shared memory, unseen by us

Choose = Callable[[int], int]
"""Which of so many versions, the oldest first, is on the disk."""


@dataclass(eq=False)
class _File:
    """What programs see of a file, and what may be on the disk."""

    seen: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)  # without what is in `versions`
    sizes: list[int] = field(default_factory=lambda: [0])  # that the disk may know: the synced one, then later ones
    versions: dict[int, list[bytes]] = field(default_factory=dict)  # of pages since they were synced
    dirty: set[int] = field(default_factory=set)  # pages that the next sync writes

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if end > len(self.seen):
            self.seen.extend(bytes(end - len(self.seen)))
            self.sizes.append(end)
        self.seen[offset:end] = data
        self._touch(offset, end)

    def cut(self, size: int) -> None:
        before = len(self.seen)
        del self.seen[size:]
        self.seen.extend(bytes(size - len(self.seen)))
        self.sizes.append(size)
        self._touch(min(size, before), max(size, before))

    def _touch(self, start: int, end: int) -> None:
        for page in range(start // PAGE_BYTES, -(-end // PAGE_BYTES)):
            at = page * PAGE_BYTES
            version = bytes(self.seen[at : at + PAGE_BYTES]).ljust(PAGE_BYTES, b"\0")
            self.versions.setdefault(page, []).append(version)
            self.dirty.add(page)

    def sync(self, worked: bool) -> None:
        if worked:
            for page in self.dirty:
                self._put(self.synced, page, self.versions.pop(page)[-1])
            self.sizes = [len(self.seen)]
        self.dirty.clear()

    def after_power_cut(self, choose: Choose) -> bytes:
        image = bytearray(self.synced)
        for page, versions in self.versions.items():
            at = page * PAGE_BYTES
            all_versions = [bytes(self.synced[at : at + PAGE_BYTES]).ljust(PAGE_BYTES, b"\0"), *versions]
            sectors = (
                all_versions[choose(len(all_versions))][start : start + SECTOR_BYTES]
                for start in range(0, PAGE_BYTES, SECTOR_BYTES)
            )
            self._put(image, page, b"".join(sectors))
        size = self.sizes[choose(len(self.sizes))]
        return bytes(image[:size].ljust(size, b"\0"))

    @staticmethod
    def _put(image: bytearray, page: int, content: bytes) -> None:
        at = page * PAGE_BYTES
        if len(image) < at:
            image.extend(bytes(at - len(image)))
        image[at : at + PAGE_BYTES] = content


Names = dict[str, "_File | None"]  # None: the name is gone


class Replay:
    """The directory at one moment of its record. Begins empty, and before it is made."""

    def __init__(self) -> None:
        self._seen: dict[str, _File] = {}
        self._synced: dict[str, _File] = {}
        self._changes: list[Names] = []  # of names, since the directory was synced; each happens as a whole
        self._by_inode: dict[int, _File] = {}
        self._is_there_for_good = True

    def play(self, event: Event) -> None:
        """What was done next."""
        match event.kind:
            case Kind.MADE if event.name == ".":
                self._is_there_for_good = False
            case Kind.MADE:
                self._make(event)
            case Kind.WROTE:
                self._by_inode[event.inode].write(event.offset, event.data)
            case Kind.CUT:
                self._by_inode[event.inode].cut(event.offset)
            case Kind.SYNCED:
                self._sync(event)
            case Kind.REMOVED:
                if self._seen.pop(event.name, None) is not None:  # it may have been a socket, which is no file
                    self._changes.append({event.name: None})
            case Kind.RENAMED:
                moved, to = self._seen.pop(event.name), event.data.decode()
                self._seen[to] = moved
                self._changes.append({event.name: None, to: moved})

    def _make(self, event: Event) -> None:
        """It may have been there before: only a file that no name leads to any more can have left its inode to it."""
        known = self._seen.get(event.name)
        if known is not None and self._by_inode.get(event.inode) is known:
            return
        file = self._by_inode[event.inode] = _File()
        self._seen[event.name] = file
        self._changes.append({event.name: file})

    def _sync(self, event: Event) -> None:
        if event.name == ".." and not event.error:
            self._is_there_for_good = True
        elif event.name == "." and not event.error:
            self._synced = dict(self._seen)
            self._changes.clear()
        elif event.inode in self._by_inode:
            self._by_inode[event.inode].sync(worked=not event.error)

    def seen(self) -> dict[str, bytes]:
        """What programs see: what a record says of the files that are there must be what is in them."""
        return {name: bytes(file.seen) for name, file in self._seen.items() if not name.endswith(UNSYNCED)}

    def cut_power(self, into: Path, rng: random.Random) -> str:
        """Write what may be left into an empty directory. Says in a few words what was chosen."""
        share = rng.choice(SHARES)

        def choose(versions: int) -> int:
            if share == 0 or versions == 1:
                return 0
            return versions - 1 if rng.random() < share else rng.randrange(versions - 1)

        if not self._is_there_for_good and choose(2) == 0:
            return "not even the directory is there"
        names: Names = dict(self._synced)
        for change in self._changes:
            if choose(2):
                names.update(change)
        for name, file in names.items():
            if file is not None and not name.endswith(UNSYNCED):
                (into / name).write_bytes(file.after_power_cut(choose))
        return f"{share:.0%} of what was not synced is there"
