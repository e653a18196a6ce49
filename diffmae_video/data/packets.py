"""The packets of a video stream: which packet holds which frame, and where decoding has to start for it.

Reading every packet once costs about 1 % of decoding them, and gives exact frame numbers and times for any
frame rate, edit list or start offset, which no container's header does reliably.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np

from diffmae_video.data.h264 import is_clean_entry


@dataclass(frozen=True, eq=False)
class PacketTable:
    """A stream's packets in decoding order, and its frames in the order they are shown.

    Attributes:
        packets: P packets.
        shown: (N,) position among the packets of the n-th frame shown.
        pts: (N,) time stamp of that frame, ascending, in the stream's time base.
        keys: (K,) positions of key packets.
        key_pts: (K,) their time stamps.
    """

    packets: Sequence[av.Packet]
    shown: np.ndarray
    pts: np.ndarray
    keys: np.ndarray
    key_pts: np.ndarray

    def entry(self, frame: int, *, codec: str, extradata: bytes | None) -> int:
        """The latest packet that decoding can start from and give frame ``frame`` exactly.

        It has to be shown no later than the frame as well: what an open group of pictures shows before its key
        picture refers to the group before.
        """
        before = (self.keys <= self.shown[frame]) & (self.key_pts <= self.pts[frame])
        for position in self.keys[before][::-1]:
            if codec != "h264" or is_clean_entry(self.packets[int(position)], extradata):
                return int(position)
        return 0

    def runs(self, frames: np.ndarray, *, codec: str, extradata: bytes | None) -> Iterator[tuple[int, int, np.ndarray]]:
        """Shortest stretches of packets to decode for ascending ``frames``: (begin, end, the frames in it)."""
        keys = self.keys.tolist()
        open_run: tuple[int, int, list[int]] | None = None
        for frame, position in zip(frames.tolist(), self.shown[frames].tolist(), strict=True):
            end = position + 1
            if open_run is not None:
                begin, so_far, held = open_run
                # Decoding on is the longer way only if there is a key packet in what would be decoded on the way.
                between = bisect.bisect_left(keys, so_far) < bisect.bisect_left(keys, end)
                entry = self.entry(frame, codec=codec, extradata=extradata) if between else begin
                if entry <= so_far:
                    held.append(frame)
                    open_run = (begin, max(so_far, end), held)
                    continue
                yield begin, so_far, np.array(held)
            open_run = (self.entry(frame, codec=codec, extradata=extradata), end, [frame])
        if open_run is not None:
            yield open_run[0], open_run[1], np.array(open_run[2])


def tabulate(packets: Sequence[av.Packet]) -> PacketTable | None:
    """The table of a stream's packets, or None where their time stamps don't number the frames.

    AVI files with B-frames and raw streams have packets without a time stamp of presentation.
    """
    stamps = [packet.pts for packet in packets]
    if None in stamps or not packets:
        return None
    pts = np.array(stamps, dtype=np.int64)
    kept = np.array([not packet.is_discard for packet in packets])
    shown = np.flatnonzero(kept)[np.argsort(pts[kept], kind="stable")]
    if len(shown) == 0 or (np.diff(pts[shown]) == 0).any():
        return None
    keys = np.array([i for i, packet in enumerate(packets) if packet.is_keyframe], dtype=np.int64)
    return PacketTable(packets, shown, pts[shown], keys, pts[keys])
