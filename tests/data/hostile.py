"""Files that ought not to be among videos, and videos that are hard: each a function that makes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.data.formats import VP9, X264
from tests.data.helpers import SOURCE, ffmpeg, make_video

Maker = Callable[[Path], None]


def _bytes(data: bytes) -> Maker:
    return lambda path: _write(path, data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _video(path: Path, *encoding: str, **shape: str | int) -> bytes:
    """The bytes of a sound video of the container that ``path`` names."""
    whole = path.with_name(f"whole-{path.name}")
    make_video(whole, *(encoding or (*X264, "-bf", "2", "-g", "10")), **shape)  # type: ignore[arg-type]
    data = whole.read_bytes()
    whole.unlink()
    return data


def _cut(keep: Callable[[bytes], bytes]) -> Maker:
    return lambda path: _write(path, keep(_video(path)))


def _faststart_cut(share: float) -> Maker:
    """The index first, the pictures cut short: the file says more than it holds."""

    def make(path: Path) -> None:
        data = _video(path, *X264, "-bf", "2", "-g", "10", "-movflags", "+faststart")
        _write(path, data[: int(len(data) * share)])

    return make


def _damage_payload(data: bytes, *, every: int, value: int | None) -> bytes:
    """Overwrite, or if ``value`` is None invert, a byte in ``every`` of the pictures' data."""
    at = data.index(b"mdat") + 4
    end = data.find(b"moov", at)
    spoilt = bytearray(data)
    for i in range(at + 100, (end if end > 0 else len(data)) - 8, every):
        spoilt[i] = value if value is not None else spoilt[i] ^ 0xFF
    return bytes(spoilt)


def _without_box(name: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(name, b"gone")


def _ffmpeg(*arguments: str) -> Maker:
    return lambda path: ffmpeg(*arguments, str(path))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _no_permission(path: Path) -> None:
    _write(path, _video(path))
    path.chmod(0)


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.mp4"))


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _link(path: Path) -> None:
    target = path.with_name("target-of-link.mp4")
    make_video(target)
    path.symlink_to(target)


def _whole(*encoding: str, **shape: str | int) -> Maker:
    return lambda path: _write(path, _video(path, *encoding, **shape))


def _renamed(suffix: str, *encoding: str) -> Maker:
    def make(path: Path) -> None:
        made = make_video(path.with_name(f"made-{path.name}{suffix}"), *encoding)
        made.rename(path)

    return make


def _two_sizes(path: Path) -> None:
    """Two transport streams of different picture sizes, one after the other."""
    _write(path, _video(path, *X264, size="64x48", frames=10) + _video(path, *X264, size="96x80", frames=10))


_SINE = ("-f", "lavfi", "-i", "sine=duration=1")
_PICTURE = ("-f", "lavfi", "-i", SOURCE.format(size="64x48", rate="30"))

# name: (maker, whether it has to be refused; None where either is right)
HOSTILE: dict[str, tuple[Maker, bool | None]] = {
    "empty.mp4": (_bytes(b""), True),
    "one_byte.mp4": (_bytes(b"\0"), True),
    "text.mp4": (_bytes(b"404: video unavailable\n" * 20), True),
    "html.mp4": (_bytes(b"<!DOCTYPE html><html><body>429 Too Many Requests</body></html>"), True),
    "playlist.mp4": (_bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/dev/zero\n#EXT-X-ENDLIST\n"), True),
    "concat.mp4": (_bytes(b"ffconcat version 1.0\nfile '/etc/hostname'\n"), True),
    "zeros.mp4": (_bytes(bytes(4096)), True),
    "ones.avi": (_bytes(b"\xff" * 4096), True),
    "pattern.mkv": (_bytes(bytes(range(256)) * 64), True),
    "only_ftyp.mp4": (_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"), True),
    "huge_box.mp4": (_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\x7f\xff\xff\xffmoov"), True),
    "truncated_head.mp4": (_cut(lambda data: data[64:]), True),
    "truncated_middle.mp4": (_cut(lambda data: data[: len(data) // 3] + data[len(data) // 2 :]), True),
    "truncated_tail.mp4": (_cut(lambda data: data[:-200]), True),
    "truncated_by_one.mp4": (_cut(lambda data: data[:-1]), None),
    "faststart_half.mp4": (_faststart_cut(0.5), True),
    "faststart_most.mp4": (_faststart_cut(0.95), True),
    "truncated_tail.mkv": (_cut(lambda data: data[: int(len(data) * 0.6)]), None),
    "truncated_tail.avi": (_cut(lambda data: data[: int(len(data) * 0.6)]), None),
    "truncated_tail.ts": (_cut(lambda data: data[: int(len(data) * 0.6)]), None),
    "truncated_head.ts": (_cut(lambda data: data[1000:]), None),
    "no_moov.mp4": (_cut(_without_box(b"moov")), True),
    "no_stsz.mp4": (_cut(_without_box(b"stsz")), True),
    "no_stco.mp4": (_cut(_without_box(b"stco")), True),
    "no_avcc.mp4": (_cut(_without_box(b"avcC")), True),
    "corrupt_every_50.mp4": (_cut(lambda data: _damage_payload(data, every=50, value=None)), True),
    "corrupt_every_3000.mp4": (_cut(lambda data: _damage_payload(data, every=3000, value=None)), None),
    "corrupt_zeroed.mp4": (_cut(lambda data: _damage_payload(data, every=1, value=0)), True),
    "corrupt.ts": (_cut(lambda data: data[:2000] + bytes(500) + data[2500:]), None),
    "no_video_stream.mp4": (_ffmpeg(*_SINE, "-c:a", "aac"), True),
    "cover_art.mp3.mp4": (
        _ffmpeg(*_SINE, *_PICTURE, "-frames:v", "1", "-c:a", "aac", "-c:v", "mjpeg", "-disposition:v", "attached_pic"),
        True,
    ),
    "subtitles.mp4": (_bytes(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"), True),
    "one_frame.mp4": (_whole(*X264, frames=1), False),
    "two_frames.mp4": (_whole(*X264, frames=2), False),
    "zero_duration.mkv": (_ffmpeg(*_PICTURE, "-frames:v", "1", *X264), False),
    "no_frames.mp4": (_ffmpeg(*_PICTURE, "-t", "0", *X264), True),
    "wrong_extension.mp4": (_renamed(".webm", *VP9), False),
    "wrong_extension.avi": (_renamed(".mp4"), False),
    "image_named.mp4": (_renamed(".png", "-frames:v", "1", "-c:v", "png"), False),
    "no_extension": (_renamed(".mp4"), False),
    "8k_two_frames.mp4": (
        _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=7680x4320", "-frames:v", "2", *X264, "-preset", "ultrafast"),
        False,
    ),
    "tiny_picture.mp4": (_whole(*X264, size="16x16", frames=8), False),
    "narrow.mp4": (_whole(*X264, size="512x16", frames=8), False),
    "changing_size.ts": (_two_sizes, None),
    "thousand_fps.mp4": (_whole(*X264, rate="1000", frames=20), False),
    "one_frame_an_hour.mkv": (_whole(*X264, rate="1/3600", frames=3), False),
    "directory.mp4": (_directory, True),
    "fifo.mp4": (_fifo, True),
    "no_permission.mp4": (_no_permission, None),
    "dangling_link.mp4": (_dangling, True),
    "link_to_itself.mp4": (_loop, True),
    "link.mp4": (_link, False),
    "with spaces, commas and 'quotes'.mp4": (_whole(), False),
    "naïve Café 视频 \N{CLAPPER BOARD}.mp4": (_whole(), False),
    "100%d %s.mp4": (_whole(), False),
    "http:colon.mp4": (_whole(), False),
    "new\nline.mp4": (_whole(), False),
    "-leading-dash.mp4": (_whole(), False),
}
