"""A list of videos in flat arrays, which loader workers share without copies.

A list of a million path strings is a million Python objects. Forked workers share their memory pages at first, but
reading a str changes its reference count and copies the page. Bytes and arrays have no counts per item.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffmae_video.errors import UserError

_SWAP = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
_SIDE = re.compile(rf"(?<![^\W\d_])({'|'.join(_SWAP)})(?![^\W\d_])")


@dataclass(frozen=True, eq=False)
class VideoList:
    """Videos with labels, segments and rules for mirroring.

    Attributes:
        root: folder to which the names are relative.
        names: all names, joined, UTF-8.
        ends: (n,) int64, end of each name in ``names``.
        labels: (n,) int64 lines of ``classes``; -1 for none.
        classes: class names; empty if the list has none.
        segments: (n, 2) float64 start and end seconds, NaN for the whole video; None if no video has one.
        flip_allowed: whether videos may be mirrored.
        flip_labels: (classes,) int64, label of a mirrored video of each class; None if mirroring keeps all labels.
        notes: messages to print for the user: entries left out, and why.
        num_frames: (n,) int64, number of images in a folder as listed; -1 if not listed; None if no entry has it.
    """

    root: str
    names: bytes
    ends: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    segments: np.ndarray | None = None
    flip_allowed: bool = True
    flip_labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    num_frames: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        labels: Sequence[int],
        *,
        root: str = "",
        classes: Sequence[str] = (),
        segments: np.ndarray | None = None,
        flip_allowed: bool = True,
        notes: Sequence[str] = (),
        num_frames: np.ndarray | None = None,
    ) -> VideoList:
        """Pack names and labels into arrays.

        Args:
            names: paths relative to ``root``.
            labels: one per name; -1 for none.
            root: the folder that names are relative to.
            classes: class names by label.
            segments: (n, 2) start and end seconds, NaN for none.
            flip_allowed: whether mirroring keeps the labels.
            notes: lines about the list, printed by whoever uses it.
            num_frames: (n,) images of each folder; -1 for all that are there.
        """
        encoded = [os.fsencode(name) for name in names]
        return cls(
            root=root,
            names=b"".join(encoded),
            ends=np.cumsum([len(name) for name in encoded], dtype=np.int64),
            labels=np.array(labels, dtype=np.int64),
            classes=tuple(classes),
            segments=segments,
            flip_allowed=flip_allowed,
            notes=tuple(notes),
            num_frames=num_frames,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The path as in the list."""
        begin = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.names[begin : int(self.ends[index])])

    def path(self, index: int) -> str:
        """The path to open."""
        return os.path.join(self.root, self.name(index))

    def segment(self, index: int) -> tuple[float, float] | None:
        """Start and end seconds of the labelled part, or None for the whole video."""
        if self.segments is None or np.isnan(self.segments[index, 0]):
            return None
        return float(self.segments[index, 0]), float(self.segments[index, 1])

    def num_images(self, index: int) -> int:
        """Number of images in the folder as listed; -1 if not listed."""
        return -1 if self.num_frames is None else int(self.num_frames[index])

    def subset(self, indices: Sequence[int] | np.ndarray) -> VideoList:
        """These videos only, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        encoded = [os.fsencode(self.name(int(i))) for i in indices]
        return replace(
            self,
            names=b"".join(encoded),
            ends=np.cumsum([len(name) for name in encoded], dtype=np.int64),
            labels=self.labels[indices],
            segments=None if self.segments is None else self.segments[indices],
            num_frames=None if self.num_frames is None else self.num_frames[indices],
        )

    def with_note(self, note: str) -> VideoList:
        """The same videos with one more note."""
        return replace(self, notes=(*self.notes, note))

    def reordered(self, classes: Sequence[str]) -> VideoList:
        """The same videos with labels for another order of the classes.

        Raises:
            UserError: a class of this list is not among ``classes``.
        """
        label_of = {name: i for i, name in enumerate(classes)}
        unknown = [name for name in self.classes if name not in label_of]
        if unknown:
            raise UserError(f"class {unknown[0]!r} is not among the {len(label_of)} given; compare the two classes.txt")
        new_labels = np.array([label_of[name] for name in self.classes], dtype=np.int64)
        # -1, no label, stays.
        labels = np.where(self.labels >= 0, new_labels[np.maximum(self.labels, 0)], -1) if self.classes else self.labels
        relabelled = replace(self, labels=labels, classes=tuple(classes), flip_labels=None)
        return relabelled if self.flip_labels is None else with_flip_labels(relabelled)


def with_flip_labels(videos: VideoList) -> VideoList:
    """Allow mirroring: a mirrored video gets the class whose name has left and right exchanged.

    Something-Something has such pairs ("Pushing something from left to right"). A class with left or right in its name
    but without a counterpart would get a wrong label.

    Raises:
        UserError: there is such a class, or the list has no class names.
    """
    if not videos.classes:
        raise UserError("flip needs class names to exchange left and right in; put classes.txt beside the list")
    label_of = {name: i for i, name in enumerate(videos.classes)}
    mirrored = [mirrored_name(name) for name in videos.classes]
    unpaired = [name for name, other in zip(videos.classes, mirrored, strict=True) if other not in label_of]
    if unpaired:
        raise UserError(f"class {unpaired[0]!r} has no counterpart with left and right exchanged; train without flip")
    labels = np.array([label_of[name] for name in mirrored], dtype=np.int64)
    return replace(videos, flip_allowed=True, flip_labels=labels)


def mirrored_name(name: str) -> str:
    """``name`` with the words left and right exchanged; a word ends at anything but a letter, as in "up_left"."""
    return _SIDE.sub(lambda side: _SWAP[side[0]], name)
