"""Lists of Something-Something v2 from the official JSON files.

    python datasets/ssv2.py --labels labels.json --train train.json --val validation.json \\
        --root /videos/ssv2 --out data/ssv2

Videos are ``ID.webm`` (or any other container), or folders ``ID/`` of images, anywhere below the root. The order of
classes is labels.json's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from listing import Clip, FileIndex, read_text, write_collection

from diffmae_video.command_line import Parser, run_command
from diffmae_video.errors import UserError


def read_json(path: Path, kind: type) -> Any:
    """Read an official JSON file with a ``kind`` (dict or list) at the top.

    Raises:
        UserError: not JSON, or of another kind.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg}); download the official file again") from error
    if not isinstance(content, kind):
        raise UserError(f"{path}: must hold a {'list of videos' if kind is list else 'table of classes'}")
    return content


def read_classes(path: Path) -> list[str]:
    """Class names of labels.json ({name: number as text}), in the order of their numbers.

    Raises:
        UserError: the numbers are not 0, 1, 2, ...
    """
    labels = read_json(path, dict)
    numbers = [str(number) for number in labels.values()]
    if sorted(numbers) != sorted(str(i) for i in range(len(labels))):
        raise UserError(f"{path}: its numbers must be 0..{len(labels) - 1}, each once; give the official labels.json")
    return [name for _, name in sorted(zip(map(int, numbers), labels, strict=True))]


def template_class(template: str) -> str:
    """The class that a template belongs to: "Putting [something] on [something]" without its brackets."""
    return template.replace("[", "").replace("]", "")


def read_split(path: Path, labels: dict[str, int], *, labelled: bool) -> list[Clip]:
    """The videos of a train, validation or test JSON; label -1 in the test file, which has no labels.

    Raises:
        UserError: an entry without an id or, if ``labelled``, without a template of labels.json.
    """
    clips = []
    for number, entry in enumerate(read_json(path, list), 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)) or entry["id"] == "":
            raise UserError(f"{path}: entry {number} has no id; give the official file")
        template = entry.get("template") or ""
        if labelled and not template:
            raise UserError(
                f"{path}: entry {number} (id {entry['id']}) has no template; only the test JSON may have none"
            )
        name = template_class(str(template))
        if template and name not in labels:
            raise UserError(
                f"{path}: entry {number} (id {entry['id']}): template {template!r} is not in labels.json; "
                "give files of one release"
            )
        clips.append(Clip(stems=(str(entry["id"]),), label=labels[name] if template else -1))
    return clips


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the lists."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, type=Path, help="official labels.json")
    parser.add_argument("--train", required=True, type=Path, help="official train.json")
    parser.add_argument("--val", required=True, type=Path, help="official validation.json")
    parser.add_argument("--test", type=Path, help="official test.json")
    parser.add_argument("--root", required=True, type=Path, help="folder with the videos, at any depth")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    args = parser.parse_args(arguments)
    files = {"train": args.train, "val": args.val} | ({"test": args.test} if args.test else {})

    def run() -> int:
        classes = read_classes(args.labels)
        labels = {name: i for i, name in enumerate(classes)}
        splits = {split: read_split(path, labels, labelled=split != "test") for split, path in files.items()}
        print(write_collection(args.out, FileIndex(args.root), classes, dict(splits)))
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
