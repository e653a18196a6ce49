"""tools/demo.py: its commands run in order, a failure ends it, and its table says what the files say."""

from __future__ import annotations

import json
from pathlib import Path

import demo
import pytest

from diffmae_video.config import load_config
from diffmae_video.sample_media import wheel_path


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Run folders as the parts leave them, with numbers of our own."""
    pretrained, scratch, inpainted = demo.run_folders(tmp_path)
    for folder, top1 in ((pretrained, 0.625), (scratch, 0.25)):
        (folder / "test").mkdir(parents=True)
        (folder / "test" / "result.json").write_text(json.dumps({"model": {"top1": top1}}))
    inpainted.mkdir()
    hidden = {name: {"psnr": 10.0 + i, "ssim": 0.1 * i} for i, name in enumerate(demo._NAMES)}
    (inpainted / "metrics.json").write_text(json.dumps({"hidden": hidden}))
    return tmp_path


def test_table_is_short_and_has_the_numbers(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    lines = demo.table(Path(".")).splitlines()
    assert max(map(len, lines)) <= 80
    assert "62.5%" in lines[2]
    assert "25.0%" in lines[3]
    assert [line.split()[-2:] for line in lines[6:10]] == [[f"{10 + i}.00", f"0.{i}00"] for i in range(4)]


def test_every_command_is_of_this_repository_and_loads(tmp_path: Path) -> None:
    film = wheel_path(demo.FILM)
    assert film.is_file()
    for script, *arguments in demo.commands(tmp_path, film=film):
        assert (demo.ROOT / script).is_file()
        if script == "tools/run_net.py":
            config = load_config(demo.ROOT / arguments[1], arguments[2:])
            assert Path(config.output_dir).parent == tmp_path


def test_both_sides_have_the_same_budget(tmp_path: Path) -> None:
    _, pretrained, scratch, _ = demo.commands(tmp_path, film=wheel_path(demo.FILM))
    ours, theirs = (load_config(demo.ROOT / c[2], c[3:]) for c in (pretrained, scratch))
    assert theirs.finetune.init == "none"
    for key in ("epochs", "batch_size", "clips_per_video", "train_list", "crop_scale"):
        assert getattr(ours.finetune, key) == getattr(theirs.finetune, key), key
    assert ours.data == theirs.data
    assert ours.model == theirs.model
    assert ours.test == theirs.test


def test_the_first_failure_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [["-c", "print('one')"], ["-c", "raise SystemExit(7)"], ["-c", "print('three')"]]
    monkeypatch.setattr(demo, "commands", lambda runs, film: parts)
    assert demo.main(["--runs", str(tmp_path)]) == 7
    told = capfd.readouterr().out
    assert "one\n" in told
    assert "three\n" not in told
    assert "ended with code 7; run the demo again" in told
