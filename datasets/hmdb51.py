"""Lists of HMDB51 from the official split files.

    python datasets/hmdb51.py --splits testTrainMulti_7030_splits --split 1 --root /videos/hmdb51 --out data/hmdb51

``--splits`` is the folder with ``CLASS_test_split1.txt`` and so on, with lines ending in 1 (train), 2 (test) or 0
(unused).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from listing import Clip, FileIndex, write_collection

CODES = {"1": "train", "2": "val"}


def read_splits(folder: Path, split: int) -> tuple[list[str], dict[str, list[Clip]]]:
    """Class names, sorted, and the videos of each part.

    Raises:
        ValueError: no split files in ``folder``.
    """
    ending = f"_test_split{split}.txt"
    files = {path.name.removesuffix(ending): path for path in folder.glob(f"*{ending}")}
    if not files:
        raise ValueError(f"--splits {folder}: no file *{ending}; give the folder of the official split files")
    classes = sorted(files)
    parts: dict[str, list[Clip]] = {part: [] for part in CODES.values()}
    for label, name in enumerate(classes):
        for line in files[name].read_text(encoding="utf-8").splitlines():
            video, _, code = line.strip().rpartition(" ")
            if code in CODES:
                parts[CODES[code]].append(Clip(stems=(Path(video.strip()).stem,), label=label))
    return classes, parts


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", required=True, type=Path, help="folder of the official split files")
    parser.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="which of the three splits")
    parser.add_argument("--root", required=True, type=Path, help="folder below which the videos lie")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    options = parser.parse_args(arguments)
    try:
        classes, parts = read_splits(options.splits, options.split)
        print(write_collection(options.out, FileIndex(options.root), classes, dict(parts)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
