"""What this machine has to have for an engine: room on its disks, and a clock that is right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

FULL = 10_000_000
"""Bytes free below which a disk is as good as full: the next writes may fail."""

ALMOST_FULL, ALMOST_FULL_PART = 200_000_000, 0.05
"""Bytes free, or the free part of the disk, below which somebody should make room."""

CLOCKS_DIFFER = 30.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on the disk of a folder, as far as this user may take them."""

    folder: Path
    free: int
    total: int
    files_left: bool = True

    @property
    def full(self) -> bool:
        return self.free < FULL or not self.files_left

    @property
    def almost_full(self) -> bool:
        return self.free < max(ALMOST_FULL, self.total * ALMOST_FULL_PART)

    def __str__(self) -> str:
        if not self.files_left:
            return f"the disk of {self.folder} has room for no further file"
        return (
            f"the disk of {self.folder} has {self.free / 1e6:,.0f} MB left of {self.total / 1e9:,.1f} GB "
            f"({100 * self.free / max(1, self.total):.0f} %)"
        )


def room(folder: Path) -> Room:
    """Of the folder, or of where it would be made. Raises `OSError`; may wait for a slow disk."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return Room(
        folder,
        free=status.f_bavail * status.f_frsize,
        total=status.f_blocks * status.f_frsize,
        files_left=status.f_favail > 0 or status.f_files == 0,  # some file systems do not count files
    )


def apart(theirs: float, asked: float, told: float) -> str | None:
    """How far another clock is from ours, in words, if it is too far. It was read some time between `asked`
    and `told`, which are ours; all in seconds since 1970."""
    seconds = theirs - min(max(theirs, asked), told)
    if abs(seconds) <= CLOCKS_DIFFER:
        return None
    return f"{abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
