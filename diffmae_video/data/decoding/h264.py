"""One question about H.264: does decoding from this key packet give exact pictures from it on?

An IDR picture does. A recovery point (open groups of pictures, intra refresh) does only when its message says
that recovery takes no pictures: recovery_frame_cnt = 0, in ITU-T H.264 D.1.8 and D.2.8.
"""

from __future__ import annotations

from collections.abc import Iterator

import av

_SLICE, _IDR_SLICE, _SEI = 1, 5, 6
_RECOVERY_POINT = 6


def is_clean_entry(packet: av.Packet, extradata: bytes | None) -> bool:
    """Whether ``packet`` is an IDR picture, or a recovery point with nothing to recover."""
    recovers_at_once = False
    for unit in _units(memoryview(packet), extradata):
        kind = unit[0] & 31
        if kind == _IDR_SLICE:
            return True
        if kind == _SEI:
            recovers_at_once = recovers_at_once or _recovers_at_once(unit)
        elif kind == _SLICE:
            return recovers_at_once
    return False


def _units(data: memoryview, extradata: bytes | None) -> Iterator[memoryview]:
    """Split a packet into its NAL units, by length prefixes (avcC) or start codes (Annex B)."""
    if extradata and len(extradata) > 4 and extradata[0] == 1:
        size, at = (extradata[4] & 3) + 1, 0
        while at + size < len(data):
            length = int.from_bytes(data[at : at + size], "big")
            if length:
                yield data[at + size : at + size + length]
            at += size + length
        return
    raw = bytes(data)
    at = raw.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(raw):
        following = raw.find(b"\0\0\1", at + 3)
        yield data[at + 3 : following if following >= 0 else len(raw)]
        at = following


def _recovers_at_once(unit: memoryview) -> bool:
    """Read an SEI unit's messages for a recovery point whose first bit, the code of the count 0, is set."""
    at = 1
    while at + 2 < len(unit):
        kind, at = _varying(unit, at)
        length, at = _varying(unit, at)
        if kind == _RECOVERY_POINT and at < len(unit):
            return bool(unit[at] & 0x80)
        at += length
    return False


def _varying(unit: memoryview, at: int) -> tuple[int, int]:
    """A number coded as a run of 255s and a last byte; the number and where it ends."""
    value = 0
    while at < len(unit) and unit[at] == 255:
        value, at = value + 255, at + 1
    return (value + unit[at], at + 1) if at < len(unit) else (value, at)
