"""Faults in reading videos: which frames, how they are shown, and what a file's own numbers may do."""

from tests.mutants.mutant import Mutant

DECODE = "diffmae_video/data/decoding/base.py"
PYAV = "diffmae_video/data/decoding/pyav_reader.py"
RGB = "diffmae_video/data/decoding/color.py"
FOLDER = "diffmae_video/data/decoding/image_folder.py"
CLIPS = "diffmae_video/data/frame_sampling.py"
DATASET = "diffmae_video/data/dataset.py"
CUTTING = "diffmae_video/data/cutting.py"
BOUNDS = "tests/data/test_bounds.py"
FOLDERS = "tests/data/test_folders.py"
EXACT = "tests/data/decoding/test_exact_frames.py"

MUTANTS = [
    Mutant(
        "the usual interval is the upper of two middle ones, which of three frames may be the jump itself",
        DECODE,
        "middle = (len(intervals) - 1) // 2",
        "middle = len(intervals) // 2",
        f"{BOUNDS}::test_a_jump_of_the_clock_is_damage {BOUNDS}::test_of_three_frames_a_jump_is_seen",
    ),
    Mutant(
        "a still screen of five seconds is a jump",
        DECODE,
        "_JUMP_SECONDS, _MAX_JUMP_SECONDS = 100, 60.0, 86400.0",
        "_JUMP_SECONDS, _MAX_JUMP_SECONDS = 100, 1.0, 86400.0",
        f"{BOUNDS}::test_a_still_screen_is_no_damage",
    ),
    Mutant(
        "two frames may be any time apart",
        DECODE,
        "min(max(_JUMP_INTERVALS * usual, _JUMP_SECONDS), _MAX_JUMP_SECONDS)",
        "max(_JUMP_INTERVALS * usual, _JUMP_SECONDS)",
        f"{BOUNDS}::test_any_time_stamps_give_clips_or_one_error "
        f"{BOUNDS}::test_any_times_are_refused_or_make_a_bounded_time_line",
    ),
    Mutant(
        "the frame of a jump is counted one too low",
        DECODE,
        "s at frame {jump + 1}",
        "s at frame {jump}",
        f"{BOUNDS}::test_a_jump_of_the_clock_is_damage",
    ),
    Mutant(
        "a time line works all its steps out",
        CLIPS,
        "            self._edges = (since[:-1] + since[1:]) / 2 + _TIE_SECONDS\n",
        "            self._edges = (since[:-1] + since[1:]) / 2 + _TIE_SECONDS\n"
        "            np.searchsorted(self._edges, np.arange(min(self._length, 10**7)) / fps)\n",
        f"{BOUNDS}::test_a_day_between_two_frames_costs_nothing",
    ),
    Mutant(
        "a ValueError of ours within the decoder is a broken video",
        PYAV,
        "except (av.FFmpegError, OSError, MemoryError) as error:",
        "except (av.FFmpegError, OSError, ValueError, MemoryError) as error:",
        f"{BOUNDS}::test_a_fault_of_ours_is_no_broken_video",
    ),
    Mutant(
        "memory that a video's clips lack is the batch's",
        DATASET,
        "except (MemoryError, RuntimeError) as error:",
        "except RuntimeError as error:",
        f"{BOUNDS}::test_memory_that_one_video_lacks_is_that_videos_error",
    ),
    Mutant(
        "any RuntimeError is a video too large",
        DATASET,
        """isinstance(error, RuntimeError) and "can't allocate memory" not in str(error)""",
        "False",
        f"{BOUNDS}::test_a_fault_of_ours_is_no_broken_video",
    ),
    Mutant(
        "the decoder has no bound on pictures that grow",
        PYAV,
        'context.options = {"max_pixels": str(MAX_PIXELS)}',
        "context.options = {}",
        f"{BOUNDS}::test_pictures_that_grow_on_the_way_are_bounded",
    ),
    Mutant(
        "FFmpeg may decode a picture of any size to find out what a file is",
        PYAV,
        'options = {"max_pixels": str(MAX_PIXELS)}\n            self',
        "options: dict[str, str] = {}\n            self",
        f"{BOUNDS}::test_a_claimed_size_takes_no_memory",
    ),
    Mutant(
        "a title that isn't UTF-8 stops the run",
        PYAV,
        '{"metadata_errors": "surrogateescape"}',
        '{"metadata_errors": "strict"}',
        f"{BOUNDS}::test_a_title_in_any_encoding_is_no_damage",
    ),
    Mutant(
        "a mirrored video is turned by 180 degrees",
        RGB,
        '(("hflip", ""),) if matrix[0] < 0 else ()',
        '(("hflip", ""), ("vflip", ""), ("copy", ""))',
        f"{EXACT}::test_every_frame[mirrored.mp4]",
    ),
    Mutant(
        "transposed videos are turned only",
        RGB,
        '"cclock_flip" if matrix[3] > 0 else "clock"',
        '"clock"',
        f"{EXACT}::test_every_frame[transposed.mp4] {FOLDERS}::test_images_are_shown_as_exif_says",
    ),
    Mutant(
        "a JPEG without its end marker is whole",
        PYAV,
        "if data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):",
        "if data.rfind(_JPEG_END) < 0:",
        f"{FOLDERS}::test_a_jpeg_that_is_cut_off_anywhere_is_damaged",
    ),
    Mutant(
        "what can't be read of a JPEG is left grey",
        PYAV,
        'context.options["err_detect"] = "explode"',
        'context.options["err_detect"] = "careful"',
        f"{FOLDERS}::test_a_jpeg_whose_data_is_spoilt_is_damaged",
    ),
    Mutant(
        "images come in the order of their names",
        FOLDER,
        "    numbers.sort()\n",
        "    numbers.sort(key=lambda entry: entry[1])\n",
        f"{FOLDERS}::test_images_come_in_the_order_of_their_numbers",
    ),
    Mutant(
        "every image after a gap stands for a wrong moment",
        FOLDER,
        "if following - number > max(step, 1):",
        "if following - number > max(step, 1) and step > 1:",
        f"{FOLDERS}::test_any_sequence_is_found_among_what_systems_leave",
    ),
    Mutant(
        "images beyond the list's number are used",
        FOLDER,
        "names = names[: len(names) - self.surplus]",
        "names = list(names)",
        f"{FOLDERS}::test_more_images_than_the_list_says_are_left_out_and_said",
    ),
    Mutant(
        "the list's number of images doesn't reach the reader",
        DATASET,
        "num_images=self._videos.num_images(video),",
        "num_images=-1,",
        f"{FOLDERS}::test_fewer_images_than_the_list_says_are_an_error",
    ),
    Mutant(
        "of several streams the first one marked as default is taken, whatever its size",
        PYAV,
        "(bool(s.disposition & Disposition.default), _pixels(s))",
        "bool(s.disposition & Disposition.default)",
        f"{EXACT}::test_the_stream_is_the_one_that_the_command_line_takes",
    ),
    Mutant(
        "a larger stream is taken before the one marked as default",
        PYAV,
        "(bool(s.disposition & Disposition.default), _pixels(s))",
        "_pixels(s)",
        f"{EXACT}::test_the_stream_is_the_one_that_the_command_line_takes",
    ),
    Mutant(
        "a cover picture is the video",
        PYAV,
        "if not s.disposition & Disposition.attached_pic]",
        "]",
        f"{EXACT}::test_a_cover_picture_is_no_stream",
    ),
    Mutant(
        "large pictures are shrunk to another short side",
        DATASET,
        "whole, short_side=self.crop_size)",
        "whole, short_side=self.crop_size - 4)",
        f"{BOUNDS}::test_large_pictures_are_shrunk_as_they_come_with_the_same_result",
    ),
    Mutant(
        "every frame is kept until Python's next collection",
        RGB,
        "if self._rotation != frame.rotation:",
        "if True:",
        f"{BOUNDS}::test_frames_are_freed_as_they_come",
    ),
]
