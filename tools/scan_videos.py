"""Read every video of a list once and say which are fit to use.

    python tools/scan_videos.py --list data/k400/train.csv --root /videos/k400 --manifest data/k400/manifest.csv

An interrupted scan goes on where it was, and a later one examines only what is new, has changed, could not be read, or
was scanned with --quick before. Training then leaves the faulty ones out with data.manifest=....
Exit code 0 if all are fit, 1 if some are not, 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from diffmae_video.command_line import Parser, real_number, run_command, whole_number
from diffmae_video.data import read_videos
from diffmae_video.data.manifest import Health, Manifest, ManifestWriter, read_manifest
from diffmae_video.data.scan import examine_all, plan, summarise, unlike_list


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", required=True, type=Path, help="list of videos, or a folder of class folders")
    parser.add_argument("--root", default="", help="folder that the list's paths are relative to")
    parser.add_argument("--dataset", default="list", help="as data.dataset; folder for a folder of class folders")
    parser.add_argument("--manifest", required=True, type=Path, help="CSV to write, or to go on with")
    parser.add_argument("--quick", action="store_true", help="decode the first and the last frame only")
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--timeout", type=real_number(0, above=True), default=120.0, help="seconds after which a video is bad"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Scan, write the manifest, print the summary; 0 if all videos are fit, else 1."""
    videos = read_videos(options.list, root=options.root, dataset=options.dataset)
    for note in videos.notes:
        print(note)
    depth = "quick" if options.quick else "full"
    known = Manifest(read_manifest(options.manifest) if options.manifest.exists() else [])
    rows, left = plan(videos, known, depth=depth)
    print(f"{len(rows)} of {len(rows) + len(left)} videos as {options.manifest} has them, {len(left)} to examine")
    _examine(left, rows, known, depth=depth, options=options)
    print(summarise(list(rows.values())))
    if all(row.reason == "no such file" for row in rows.values()):
        print(f"none is there, such as {videos.path(0)}: check --root")
    faults, more = unlike_list(videos, rows)
    for kind, lines in (("not as the list says", faults), ("more images than listed, the first are used", more)):
        if lines:
            print(f"{len(lines)} {kind}: {'; '.join(lines[:5])}" + (" ..." if len(lines) > 5 else ""))
    return int(bool(faults) or any(row.status != "ok" for row in rows.values()))


def _examine(
    left: dict[str, str], rows: dict[str, Health], known: Manifest, *, depth: str, options: argparse.Namespace
) -> None:
    """Examine what is left; each row is written at once and joins ``rows``."""
    examined = examine_all(left, depth=depth, num_workers=options.workers, timeout_seconds=options.timeout)
    faulty = sum(row.status != "ok" for row in rows.values())
    with (
        ManifestWriter(options.manifest) as manifest,
        tqdm(examined, total=len(rows) + len(left), initial=len(rows), unit="video") as bar,
    ):
        for row in bar:
            if not known.holds(row):
                manifest.add(row)
            rows[row.path] = row
            faulty += row.status != "ok"
            bar.set_postfix(faulty=faulty)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    options = parse(arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
