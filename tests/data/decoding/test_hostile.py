"""Each hostile file decodes right or gives one DecodeError; none hangs, leaks or kills a worker."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from diffmae_video.data import DecodeError, TestViews, TrainClips, VideoList, open_video, test_loader, train_loader
from tests.data import hostile
from tests.data.helpers import reference_frames

SHAPE = {"num_frames": 4, "stride_frames": 2, "fps": 30.0, "crop_size": 16, "timeout_seconds": 20.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name, (make, _) in hostile.HOSTILE.items():
        make(folder / name)
    return folder


def test_the_corpus_is_as_large_as_the_table_in_the_documents_says() -> None:
    assert len(hostile.HOSTILE) >= 40


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_decodes_right_or_gives_one_error(corpus: Path, name: str) -> None:
    path, must_fail = str(corpus / name), hostile.HOSTILE[name][1]
    began = time.monotonic()
    frames, error = _read(path)
    assert time.monotonic() - began < 20
    if error is None:
        assert must_fail is not True, f"{len(frames)} frames"
        np.testing.assert_array_equal(np.stack(frames), reference_frames(Path(path)))
    else:
        assert must_fail is not False, error
        assert error.path == path
        assert error.reason
        assert "\n" not in error.reason


def _read(path: str) -> tuple[list[np.ndarray], DecodeError | None]:
    try:
        with open_video(path, timeout_seconds=20) as reader:
            return [frame.copy() for frame in reader.frames(range(len(reader.times)))], None
    except DecodeError as error:
        return [], error


def test_root_reads_what_nobody_may(corpus: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file, whatever its mode: the refusal can't be seen as root")
    with pytest.raises(DecodeError, match="Permission denied"):
        open_video(str(corpus / "no_permission.mp4"))


def test_nothing_is_left_open(corpus: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = None
    for _ in range(3):
        for name in hostile.HOSTILE:
            if name.startswith("8k"):
                continue
            try:
                with open_video(str(corpus / name)) as reader:
                    next(iter(reader.frames([0])))
            except DecodeError:
                pass
        before = before or open_files()
    assert open_files() == before


def test_loaders_survive_the_corpus(corpus: Path) -> None:
    """Two workers read the corpus beside sound videos: every test video is told, and training goes on."""
    names = [name for name in hostile.HOSTILE if not name.startswith("8k")]
    videos = VideoList.of(names, [0] * len(names), root=str(corpus))
    seen: dict[int, str] = {}
    for batch in test_loader(
        TestViews(videos, **SHAPE, num_views=2, num_crops=2), batch_size=3, rank=0, world_size=1, num_workers=2
    ):
        seen |= dict(zip(batch["index"].tolist(), batch["error"], strict=True))
        broken = [bool(error) for error in batch["error"]]
        assert not batch["clips"][broken].any()
    assert sorted(seen) == list(range(len(names)))
    for index, error in seen.items():
        must_fail = hostile.HOSTILE[names[index]][1]
        assert must_fail is None or bool(error) == must_fail or _needs_all_frames(names[index]), (names[index], error)
    order = TrainClips(videos, seed=0, **SHAPE)
    steps = list(train_loader(order, batch_size=4, num_steps=8, num_workers=2))
    assert len(steps) == 8
    assert sum(len(batch["broken"]) for batch in steps) > 0
    refused = {names[i] for i, error in seen.items() if error}
    for batch in steps:
        for path, reason in batch["broken"]:
            assert os.path.basename(path) in refused or _needs_all_frames(os.path.basename(path))
            assert reason


def _needs_all_frames(name: str) -> bool:
    """Damage that a clip may miss: it shows only where it is."""
    return name.startswith("corrupt")
