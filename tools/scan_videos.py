"""Read every video of a list once and report which are fit to use.

    python tools/scan_videos.py --list data/k400/train.csv --root /videos/k400 --manifest data/k400/manifest.csv

An interrupted scan resumes, and a later scan examines only files that are new, changed, could not be read, or were
scanned with --quick before. Training leaves out the faulty videos with data.manifest=MANIFEST.
Exit code 0 if all videos are fit, 1 if some are not, 2 for a wrong argument, such as a root where none of them is.
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
from diffmae_video.data.scan import compare_with_list, examine_all, plan, summarise
from diffmae_video.errors import UserError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", required=True, type=Path, help="list of videos, or a folder of class folders")
    parser.add_argument("--root", default="", help="folder to which the list's paths are relative")
    parser.add_argument("--dataset", default="list", help="as data.dataset; folder for a folder of class folders")
    parser.add_argument("--manifest", required=True, type=Path, help="CSV to write, or to resume")
    parser.add_argument("--quick", action="store_true", help="decode the first and the last frame only")
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--timeout",
        type=real_number(0, above=True),
        default=120.0,
        help="seconds after which a video is given up as unread",
    )
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Scan, write the manifest, print the summary; 0 if all videos are fit, else 1.

    Raises:
        UserError: an invalid argument, or none of the videos exists.
    """
    videos = read_videos(args.list, root=args.root, dataset=args.dataset)
    for note in videos.notes:
        print(note)
    depth = "quick" if args.quick else "full"
    known = Manifest(read_manifest(args.manifest) if args.manifest.exists() else [])
    rows, remaining = plan(videos, known, depth=depth)
    total = len(rows) + len(remaining)
    print(f"{len(rows)} of {total} videos are up to date in {args.manifest}, {len(remaining)} to examine")
    _examine(remaining, rows, known, depth=depth, args=args)
    print(summarise(list(rows.values())))
    if all(row.reason == "no such file" for row in rows.values()):
        raise UserError(f"none of the {total} videos exists, such as {videos.path(0)}; check --root")
    faults, more = compare_with_list(videos, rows)
    for kind, lines in (("not as the list says", faults), ("more images than listed, the first are used", more)):
        if lines:
            print(f"{len(lines)} {kind}: {'; '.join(lines[:5])}" + (" ..." if len(lines) > 5 else ""))
    return int(bool(faults) or any(row.status != "ok" for row in rows.values()))


def _examine(
    remaining: dict[str, str], rows: dict[str, Health], known: Manifest, *, depth: str, args: argparse.Namespace
) -> None:
    """Examine the remaining files; write each row at once and add it to ``rows``."""
    examined = examine_all(remaining, depth=depth, num_workers=args.workers, timeout_seconds=args.timeout)
    faulty = sum(row.status != "ok" for row in rows.values())
    with (
        ManifestWriter(args.manifest) as manifest,
        tqdm(examined, total=len(rows) + len(remaining), initial=len(rows), unit="video") as bar,
    ):
        for row in bar:
            if not known.holds(row):
                manifest.add(row)
            rows[row.path] = row
            faulty += row.status != "ok"
            bar.set_postfix(faulty=faulty)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    args = parse(arguments)
    return run_command(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
