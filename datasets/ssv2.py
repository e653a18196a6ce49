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

from listing import Clip, FileIndex, write_collection

from diffmae_video.errors import UserError


def read_classes(path: Path) -> list[str]:
    """Class names of labels.json ({name: number as text}), in the order of their numbers.

    Raises:
        UserError: the numbers are not 0, 1, 2, ...
    """
    numbered = {int(number): name for name, number in json.loads(path.read_text(encoding="utf-8")).items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise UserError(f"{path}: its numbers must be 0..{len(numbered) - 1}; give the official labels.json")
    return [numbered[i] for i in range(len(numbered))]


def template_class(template: str) -> str:
    """The class that a template belongs to: "Putting [something] on [something]" without its brackets."""
    return template.replace("[", "").replace("]", "")


def read_split(path: Path, labels: dict[str, int]) -> list[Clip]:
    """The videos of a train, validation or test JSON; label -1 where there is no template.

    Raises:
        UserError: a template that isn't in labels.json.
    """
    clips = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        label = -1
        if "template" in entry:
            name = template_class(entry["template"])
            if name not in labels:
                raise UserError(f"{path}: template {entry['template']!r} is not in labels.json of this release")
            label = labels[name]
        clips.append(Clip(stems=(str(entry["id"]),), label=label))
    return clips


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, type=Path, help="official labels.json")
    parser.add_argument("--train", required=True, type=Path, help="official train.json")
    parser.add_argument("--val", required=True, type=Path, help="official validation.json")
    parser.add_argument("--test", type=Path, help="official test.json")
    parser.add_argument("--root", required=True, type=Path, help="folder below which the videos lie")
    parser.add_argument("--out", required=True, type=Path, help="folder for the lists")
    options = parser.parse_args(arguments)
    files = {"train": options.train, "val": options.val} | ({"test": options.test} if options.test else {})
    try:
        classes = read_classes(options.labels)
        labels = {name: i for i, name in enumerate(classes)}
        splits = {split: read_split(path, labels) for split, path in files.items()}
        print(write_collection(options.out, FileIndex(options.root), classes, dict(splits)))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
