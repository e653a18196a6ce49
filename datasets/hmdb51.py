"""Lists of HMDB51 from the official split files.

    python datasets/hmdb51.py --splits testTrainMulti_7030_splits --split 1 --root /videos/hmdb51 --out data/hmdb51

``--splits`` is the folder with ``CLASS_test_split1.txt`` and so on, whose lines end in 1 (train), 2 (test) or 0
(unused).
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from listing import Clip, prepare_split, read_lines

from diffmae_video.data.list_forms import refuser
from diffmae_video.errors import UserError

CODES = {"1": "train", "2": "val", "0": ""}


def read_splits(folder: Path, split: int) -> tuple[list[str], dict[str, list[Clip]]]:
    """Class names, sorted, and the videos of each part.

    Raises:
        UserError: no split files in ``folder``, or a line that doesn't end in one of ``CODES``.
    """
    ending = f"_test_split{split}.txt"
    files = {path.name.removesuffix(ending): path for path in sorted(folder.glob(f"*{ending}"))}
    if not files:
        raise UserError(f"--splits {folder}: no file *{ending}; give the folder of the official split files")
    classes = sorted(files)
    parts: dict[str, list[Clip]] = {"train": [], "val": []}
    for label, name in enumerate(classes):
        for line, text in read_lines(files[name]):
            video, _, code = text.rpartition(" ")
            if code not in CODES or not video.strip():
                refuser(files[name], line, text)("must be a video and 1 (train), 2 (test) or 0 (unused)")
            if CODES[code]:
                clip = Clip(stems=(Path(video.strip()).stem,), label=label, folders=(name,))
                parts[CODES[code]].append(clip)
    return classes, parts


main = partial(prepare_split, description=__doc__, read=read_splits)

if __name__ == "__main__":
    sys.exit(main())
