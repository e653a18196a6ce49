"""Read every video of a list once and say which are fit to use.

    python tools/scan_videos.py --list data/k400/train.csv --root /videos/k400 --manifest data/k400/manifest.csv

An interrupted scan goes on where it was. Training then leaves the bad ones out with data.manifest=....
Exit code 0 if all are fit, 1 if some are not, 2 for a wrong argument.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from diffmae_video.data import read_videos
from diffmae_video.data.scan import read_manifest, scan, summarise
from diffmae_video.errors import UserError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", required=True, type=Path, help="list of videos, or a folder of class folders")
    parser.add_argument("--root", default="", help="folder that the list's paths are relative to")
    parser.add_argument("--dataset", default="list", help="as data.dataset; folder for a folder of class folders")
    parser.add_argument("--manifest", required=True, type=Path, help="CSV to write, or to go on with")
    parser.add_argument("--quick", action="store_true", help="decode the first and the last frame only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds after which a video is bad")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Scan, write the manifest, print the summary."""
    options = parse(arguments)
    try:
        videos = read_videos(options.list, root=options.root, dataset=options.dataset)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    known = len(read_manifest(options.manifest)) if options.manifest.exists() else 0
    rows = scan(
        videos, options.manifest, quick=options.quick, num_workers=options.workers, timeout_seconds=options.timeout
    )
    bad = 0
    with tqdm(rows, total=len(videos), initial=min(known, len(videos)), unit="video") as bar:
        for row in bar:
            bad += row.status == "bad"
            bar.set_postfix(bad=bad)
    listed = {videos.name(i) for i in range(len(videos))}
    examined = [row for row in read_manifest(options.manifest) if row.path in listed]
    print(summarise(examined))
    return int(any(row.status == "bad" for row in examined))


if __name__ == "__main__":
    sys.exit(main())
