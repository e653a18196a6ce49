"""Lists of UCF101 from the official split files.

    python datasets/ucf101.py --splits ucfTrainTestlist --split 1 --root /videos/UCF-101 --out data/ucf101

``--splits`` is the folder with classInd.txt, trainlist01.txt, testlist01.txt and so on.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from listing import Clip, prepare_split, read_lines

from diffmae_video.data.list_forms import refuser

PARTS = {"train": "train", "val": "test"}


def read_classes(path: Path) -> list[str]:
    """Class names of classInd.txt ("1 ApplyEyeMakeup"), in the order of their numbers, which start at 1.

    Raises:
        UserError: a line that isn't the next number and a new name.
    """
    classes: list[str] = []
    for line, text in read_lines(path):
        number, _, name = text.partition(" ")
        if number != str(len(classes) + 1) or not name.strip() or name.strip() in classes:
            refuser(path, line, text)(f"must be {len(classes) + 1} and another class's name; give the official file")
        classes.append(name.strip())
    return classes


def read_split(path: Path, labels: dict[str, int]) -> list[Clip]:
    """Videos of a split file: "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"; the folder names the class.

    Raises:
        UserError: a line without a folder, of a class that isn't in classInd.txt, or with another class's number.
    """
    clips = []
    for line, text in read_lines(path):
        refuse = refuser(path, line, text)
        name, *number = text.split()
        folder, _, video = name.partition("/")
        if folder not in labels:
            refuse(f"class {folder!r} is not in classInd.txt; give files of one release")
        if not video or number not in ([], [str(labels[folder] + 1)]):
            refuse(f"must be CLASS/VIDEO and, if any number, that of the class ({labels[folder] + 1})")
        clips.append(Clip(stems=(Path(video).stem,), label=labels[folder], folders=(folder,)))
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
