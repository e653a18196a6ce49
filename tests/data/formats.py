"""One file for each way that videos come in, made by the ffmpeg command line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tests.data.helpers import SOURCE, ffmpeg, make_video

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
X265 = ("-c:v", "libx265", "-x265-params", "log-level=none:pools=1:frame-threads=1")
AV1 = ("-c:v", "libaom-av1", "-cpu-used", "8", "-row-mt", "0", "-pix_fmt", "yuv420p")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")

# name: encoder options; the container is the name's ending
ENCODED: dict[str, tuple[str, ...]] = {
    "h264_bframes.mp4": (*X264, "-bf", "3"),
    "h264_pyramid.mkv": (*X264, "-bf", "8", "-x264-params", "b-pyramid=normal:keyint=12"),
    "h264_short_gop.mp4": (*X264, "-g", "8"),
    "h264_open_gop.mp4": (*X264, "-bf", "3", "-x264-params", "open-gop=1:keyint=10:min-keyint=10:scenecut=0"),
    "h264_open_gop.mkv": (*X264, "-bf", "3", "-x264-params", "open-gop=1:keyint=10:min-keyint=10:scenecut=0"),
    "h264_intra_refresh.mkv": (*X264, "-x264-params", "intra-refresh=1:keyint=10"),
    "h264_intra_refresh.ts": (*X264, "-x264-params", "intra-refresh=1:keyint=10"),
    "h264_interlaced.mp4": (*X264, "-flags", "+ilme+ildct", "-x264-params", "tff=1"),
    "h264_no_bframes.avi": (*X264, "-bf", "0"),
    "h264_transport.ts": (*X264, "-bf", "3", "-g", "10"),
    "h264_raw.h264": (*X264, "-bf", "3"),
    "h264_10bit.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "10"),
    "h264_422.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv422p"),
    "h264_444.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "h264_full_range.mp4": ("-c:v", "libx264", "-pix_fmt", "yuvj420p"),
    "h264_bt709.mp4": (*X264, "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
    "hevc.mp4": (*X265, "-pix_fmt", "yuv420p"),
    "hevc_open_gop.mkv": (*X265[:3], X265[3] + ":keyint=10:min-keyint=10:open-gop=1:bframes=4", "-pix_fmt", "yuv420p"),
    "hevc_layers.mp4": (*X265[:3], X265[3] + ":temporal-layers=3:bframes=4", "-pix_fmt", "yuv420p"),
    "hevc_10bit.mp4": (*X265, "-pix_fmt", "yuv420p10le"),
    "vp9.webm": (*VP9, "-pix_fmt", "yuv420p", "-g", "10"),
    "vp9_10bit.webm": (*VP9, "-profile:v", "2", "-pix_fmt", "yuv420p10le"),
    "vp8.webm": ("-c:v", "libvpx", "-pix_fmt", "yuv420p", "-auto-alt-ref", "1", "-lag-in-frames", "10"),
    "av1.mp4": (*AV1, "-g", "10"),
    "av1.mkv": (*AV1, "-lag-in-frames", "12"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-pix_fmt", "yuv420p"),
    "mpeg4_bframes.avi": ("-c:v", "mpeg4", "-bf", "2", "-pix_fmt", "yuv420p", "-g", "9"),
    "mpeg4_bframes.mp4": ("-c:v", "mpeg4", "-bf", "2", "-pix_fmt", "yuv420p", "-g", "9"),
    "xvid.avi": ("-c:v", "libxvid", "-pix_fmt", "yuv420p"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-pix_fmt", "yuv420p"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "gif.gif": ("-pix_fmt", "rgb8"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv420p"),
    "anamorphic.mp4": (*X264, "-vf", "setsar=2/1"),
    "rate_23976.mp4": (*X264, "-r", "24000/1001"),
}


def _variable_rate(folder: Path, name: str) -> Path:
    """Frames at 0, 1, 3, 6, 10, ... of a 60 Hz clock: the interval grows."""
    path = folder / name
    chosen = "+".join(f"eq(n\\,{i * (i + 1) // 2})" for i in range(12))
    ffmpeg(
        "-f", "lavfi", "-i", SOURCE.format(size="64x48", rate="60"), "-vf", f"select={chosen}",
        "-fps_mode", "vfr", "-frames:v", "12", *X264, str(path),
    )  # fmt: skip
    return path


def _odd_size(folder: Path, name: str) -> Path:
    path = folder / name
    ffmpeg(
        "-f", "lavfi", "-i", SOURCE.format(size="70x50", rate="30"), "-vf", "format=yuv444p,crop=65:47:0:0:exact=1",
        "-frames:v", "20", *VP9, "-pix_fmt", "yuv420p", str(path),
    )  # fmt: skip
    return path


# Display matrices' a, b, c, d: what they do to a picture.
MATRICES = {
    "rotated_90": (0, 1, -1, 0),
    "rotated_180": (-1, 0, 0, -1),
    "rotated_270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored_vertically": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed_across": (0, -1, -1, 0),
    "doubled": (2, 0, 0, 2),
    "rotated_45": (0.70710678, 0.70710678, -0.70710678, 0.70710678),
    "rotated_hardly": (0.99999, 0.003, -0.003, 0.99999),
    "no_area": (0, 0, 0, 0),
}


def shown_by(matrix: tuple[float, float, float, float], **shape: str) -> Callable[[Path, str], Path]:
    """What makes a video with this display matrix."""

    def make(folder: Path, name: str) -> Path:
        plain = make_video(folder / f"plain-{name}", *X264, frames=12, **shape)
        data = bytearray(plain.read_bytes())
        # Nine 32-bit numbers, 40 bytes into the track header's body (ISO 14496-12).
        a, b, c, d = (round(value * (1 << 16)) for value in matrix)
        at = data.index(b"tkhd") + 4 + 40
        data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def _edit_list(folder: Path, name: str) -> Path:
    """Cut without re-encoding: the packets before the cut stay in the file, and the edit list hides them."""
    whole = make_video(folder / f"whole-{name}", *X264, "-bf", "2", "-g", "30", frames=40)
    path = folder / name
    ffmpeg("-ss", "0.4", "-i", str(whole), "-c", "copy", str(path))
    return path


def _start_offset(folder: Path, name: str) -> Path:
    whole = make_video(folder / f"whole-{name}.mp4", *X264, "-bf", "2", "-g", "10", frames=30)
    path = folder / name
    ffmpeg("-i", str(whole), "-c", "copy", "-output_ts_offset", "7.5", str(path))
    return path


def _with_audio(folder: Path, name: str) -> Path:
    path = folder / name
    ffmpeg(
        "-f", "lavfi", "-i", "sine=frequency=440:duration=2",
        "-f", "lavfi", "-i", SOURCE.format(size="64x48", rate="30"),
        "-frames:v", "30", "-shortest", *X264, "-c:a", "aac", str(path),
    )  # fmt: skip
    return path


def _fragmented(folder: Path, name: str) -> Path:
    whole = make_video(folder / f"whole-{name}", *X264, "-bf", "2", "-g", "10", frames=30)
    path = folder / name
    ffmpeg("-i", str(whole), "-c", "copy", "-movflags", "frag_keyframe+empty_moov", str(path))
    return path


MADE: dict[str, Callable[[Path, str], Path]] = {
    "variable_rate.mp4": _variable_rate,
    "variable_rate.mkv": _variable_rate,
    "odd_size.webm": _odd_size,
    **{f"{name}.mp4": shown_by(matrix) for name, matrix in MATRICES.items()},
    "rotated_odd.mp4": shown_by(MATRICES["rotated_90"], size="66x48"),
    "edit_list.mp4": _edit_list,
    "start_offset.mkv": _start_offset,
    "start_offset.ts": _start_offset,
    "audio_beside.mp4": _with_audio,
    "audio_beside.mkv": _with_audio,
    "fragmented.mp4": _fragmented,
}
ALL = (*ENCODED, *MADE)


def make(folder: Path, name: str) -> Path:
    """Make the file ``name`` in ``folder``."""
    if name in MADE:
        return MADE[name](folder, name)
    return make_video(folder / name, *ENCODED[name], frames=30)
