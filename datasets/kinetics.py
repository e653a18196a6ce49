"""Lists of Kinetics-400, 600 or 700 from the official annotation files.

    python datasets/kinetics.py --train train.csv --val val.csv --root /videos/k400 --out data/k400

The CSVs are the official ones (columns label, youtube_id, time_start, time_end, split). Videos may lie anywhere
below the root, cut (``ID_000010_000020.mp4``) or whole (``ID.mp4``: the list then says which seconds count).
Missing videos are counted and listed; tens of thousands of Kinetics' are gone.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from listing import Clip, FileIndex, write_collection

from diffmae_video.errors import UserError

COLUMNS = ("youtube_id", "time_start", "time_end")


def read_annotations(path: Path) -> list[dict[str, str]]:
    """Rows of an official CSV.

    Raises:
        UserError: a column is missing.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(f"{path}: no column {lacking[0]}; give the official CSV (label,youtube_id,time_start,...)")
        return list(reader)


def class_names(rows: list[dict[str, str]]) -> list[str]:
    """All labels, sorted; the field counts Kinetics' classes in this order."""
    return sorted({row["label"] for row in rows if "label" in row})


def to_clip(row: dict[str, str], labels: dict[str, int]) -> Clip:
    """A row's file names, cut and whole, and its label; -1 in the test files, which have none."""
    start, end = float(row["time_start"]), float(row["time_end"])
    name = row["youtube_id"]
    return Clip(
        stems=(f"{name}_{int(start):06d}_{int(end):06d}", name),
        label=labels[row["label"]] if "label" in row else -1,
        segments=(None, (start, end)),
    )


def prepare(annotations: dict[str, Path], root: Path, out: Path) -> str:
    """Write the lists of the splits; return what to tell."""
    rows = {split: read_annotations(path) for split, path in annotations.items()}
    classes = class_names(rows["train"])
    labels = {name: i for i, name in enumerate(classes)}
    unknown = sorted({row["label"] for split in rows.values() for row in split if "label" in row} - set(labels))
    if unknown:
        raise UserError(f"class {unknown[0]!r} is not in the training CSV; give CSVs of one Kinetics")
    clips = {split: [to_clip(row, labels) for row in split_rows] for split, split_rows in rows.items()}
    return write_collection(out, FileIndex(root), classes, dict(clips))


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and prepare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, type=Path, help="official training CSV")
    parser.add_argument("--val", required=True, type=Path, help="official validation CSV")
    parser.add_argument("--test", type=Path, help="official test CSV")
    parser.add_argument("--root", required=True, type=Path, help="folder below which the videos lie")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    options = parser.parse_args(arguments)
    annotations = {"train": options.train, "val": options.val} | ({"test": options.test} if options.test else {})
    try:
        print(prepare(annotations, options.root, options.out))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
