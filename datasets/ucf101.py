"""Lists of UCF101 from the official split files.

    python datasets/ucf101.py --splits ucfTrainTestlist --split 1 --root /videos/UCF-101 --out data/ucf101

``--splits`` is the folder with classInd.txt, trainlist01.txt, testlist01.txt and so on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from listing import Clip, FileIndex, write_collection

PARTS = {"train": "train", "val": "test"}


def read_classes(path: Path) -> list[str]:
    """Class names of classInd.txt ("1 ApplyEyeMakeup"), in the order of their numbers, which count from 1."""
    numbered = dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return [numbered[str(i + 1)].strip() for i in range(len(numbered))]


def read_split(path: Path, labels: dict[str, int]) -> list[Clip]:
    """Videos of a split file: "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"; the folder names the class.

    Raises:
        ValueError: a class that isn't in classInd.txt.
    """
    clips = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        folder, _, name = line.split()[0].partition("/")
        if folder not in labels:
            raise ValueError(f"{path}: class {folder!r} is not in classInd.txt; give files of one release")
        clips.append(Clip(stems=(Path(name).stem,), label=labels[folder]))
    return clips


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True, type=Path, help="folder of the official split files")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="which of the three splits")
    parser.add_argument("--root", required=True, type=Path, help="folder below which the videos lie")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    options = parser.parse_args(arguments)
    try:
        classes = read_classes(options.splits / "classInd.txt")
        labels = {name: i for i, name in enumerate(classes)}
        files = {split: options.splits / f"{part}list{options.split:02d}.txt" for split, part in PARTS.items()}
        splits = {split: read_split(path, labels) for split, path in files.items()}
        print(write_collection(options.out, FileIndex(options.root), classes, dict(splits)))
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
