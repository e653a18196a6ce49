"""Lists of Kinetics-400, 600 or 700 from the official annotation files.

    python datasets/kinetics.py --train train.csv --val val.csv --root /videos/k400 --out data/k400

The CSVs are the official ones (columns label, youtube_id, time_start, time_end, split). Videos may be anywhere below
the root, trimmed (``ID_000010_000020.mp4``) or full-length (``ID.mp4``: the list then has the segment). Missing videos
are counted and listed; tens of thousands of Kinetics videos are no longer available.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from listing import Clip, FileIndex, read_text, write_collection

from diffmae_video.command_line import Parser, run_command
from diffmae_video.data.list_forms import parse_segment, read_rows, refuser
from diffmae_video.errors import UserError

COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class Row:
    """A line of an official CSV: class ("" for none), video id and segment in seconds; ``refuse`` raises an error."""

    label: str
    youtube_id: str
    segment: tuple[float, float]
    refuse: Callable[[str], NoReturn]


def read_annotations(path: Path) -> list[Row]:
    """Rows of an official CSV.

    Raises:
        UserError: a column is missing, or a line is incomplete.
    """
    rows = read_rows(path, read_text(path))
    _, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in header]
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(f"{path}:1: no column {missing[0]}; give the official CSV (label,youtube_id,time_start,...)")
    return [_parse(columns, cells, refuser(path, line, ",".join(cells))) for line, cells in rows]


def _parse(columns: list[str], cells: list[str], refuse: Callable[[str], NoReturn]) -> Row:
    if len(cells) != len(columns):
        refuse(f"{len(cells)} cells, the header has {len(columns)}; download the official file again")
    row = dict(zip(columns, cells, strict=True))
    segment = parse_segment(row["time_start"], row["time_end"], refuse)
    name = row["youtube_id"].strip()
    if segment is None or not name:
        refuse("needs youtube_id, time_start and time_end")
    return Row(row.get("label", "").strip(), name, segment, refuse)


def class_names(rows: list[Row]) -> list[str]:
    """All class names, sorted: the usual order of Kinetics labels."""
    return sorted({row.label for row in rows} - {""})


def to_clip(row: Row, labels: dict[str, int], *, labelled: bool) -> Clip:
    """The possible file names of a row, trimmed and full-length, and its label (-1 if the row has none).

    Args:
        row: a line of an official CSV.
        labels: {class name: label}.
        labelled: whether every row must have a label; test CSVs may have none.

    Raises:
        UserError: a missing label, or a class that isn't in ``labels``.
    """
    start, end = row.segment
    if labelled and not row.label:
        row.refuse("no label; only the test CSV may have none")
    if row.label and row.label not in labels:
        row.refuse(f"class {row.label!r} is not in the training CSV; give CSVs of one Kinetics")
    return Clip(
        stems=(f"{row.youtube_id}_{int(start):06d}_{int(end):06d}", row.youtube_id),
        label=labels[row.label] if row.label else -1,
        segments=(None, (start, end)),
        folders=(row.label, row.label.replace(" ", "_")),
    )


def prepare(annotations: dict[str, Path], root: Path, out: Path) -> str:
    """Write the lists of all splits; return a summary."""
    rows = {split: read_annotations(path) for split, path in annotations.items()}
    classes = class_names(rows["train"])
    labels = {name: i for i, name in enumerate(classes)}
    clips = {
        split: [to_clip(row, labels, labelled=split != "test") for row in split_rows]
        for split, split_rows in rows.items()
    }
    return write_collection(out, FileIndex(root), classes, dict(clips))


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and prepare."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, type=Path, help="official training CSV")
    parser.add_argument("--val", required=True, type=Path, help="official validation CSV")
    parser.add_argument("--test", type=Path, help="official test CSV")
    parser.add_argument("--root", required=True, type=Path, help="folder with the videos, at any depth")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    args = parser.parse_args(arguments)
    annotations = {"train": args.train, "val": args.val} | ({"test": args.test} if args.test else {})

    def run() -> int:
        print(prepare(annotations, args.root, args.out))
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
