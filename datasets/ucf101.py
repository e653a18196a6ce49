"""Lists of UCF101 from the official split files.

    python datasets/ucf101.py --splits ucfTrainTestlist --split 1 --root /videos/UCF-101 --out data/ucf101

``--splits`` is the folder with classInd.txt, trainlist01.txt, testlist01.txt and so on.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from listing import Clip, prepare_split

from diffmae_video.errors import UserError

PARTS = {"train": "train", "val": "test"}


def read_classes(path: Path) -> list[str]:
    """Class names of classInd.txt ("1 ApplyEyeMakeup"), in the order of their numbers, which count from 1."""
    numbered = dict(line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return [numbered[str(i + 1)].strip() for i in range(len(numbered))]


def read_split(path: Path, labels: dict[str, int]) -> list[Clip]:
    """Videos of a split file: "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"; the folder names the class.

    Raises:
        UserError: a class that isn't in classInd.txt.
    """
    clips = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        folder, _, name = line.split()[0].partition("/")
        if folder not in labels:
            raise UserError(f"{path}: class {folder!r} is not in classInd.txt; give files of one release")
        clips.append(Clip(stems=(Path(name).stem,), label=labels[folder]))
    return clips


def read_splits(folder: Path, split: int) -> tuple[list[str], dict[str, list[Clip]]]:
    """Class names, in the order of classInd.txt, and the videos of each part."""
    classes = read_classes(folder / "classInd.txt")
    labels = {name: i for i, name in enumerate(classes)}
    files = {part: folder / f"{name}list{split:02d}.txt" for part, name in PARTS.items()}
    return classes, {part: read_split(path, labels) for part, path in files.items()}


main = partial(prepare_split, description=__doc__, read=read_splits)

if __name__ == "__main__":
    sys.exit(main())
