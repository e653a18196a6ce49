"""Faults in lists, manifests, the prepare scripts and re-encoding."""

from tests.mutants.mutant import Mutant

FORMS = "diffmae_video/data/list_forms.py"
ANNOTATIONS = "diffmae_video/data/annotations.py"
MANIFEST = "diffmae_video/data/manifest.py"
SCAN = "diffmae_video/data/scan.py"
REENCODE = "datasets/reencode.py"
LISTING = "datasets/listing.py"
TEST_FORMS = "tests/data/test_list_forms.py"
TEST_ANNOTATIONS = "tests/data/test_annotations.py"
TEST_MANIFEST = "tests/data/test_manifest.py"
TEST_SCAN = "tests/data/test_scan.py"
TEST_REENCODE = "tests/datasets/test_reencode.py"
TEST_PREPARE = "tests/datasets/test_prepare.py"

MUTANTS = [
    Mutant(
        "VideoMAE V2's start and number of images are taken for a number of images and a label",
        FORMS,
        "starts = all(len(line.numbers) == 2 and line.numbers[0] in (0, 1) for line in folders)",
        "starts = False",
        f"{TEST_FORMS}::test_forms_of_the_field",
    ),
    Mutant(
        "the -1 of VideoMAE V2's pre-training lists belongs to the name",
        FORMS,
        "    while len(numbers) < 3 and (found",
        "    while len(numbers) < 1 and (found",
        f"{TEST_FORMS}::test_forms_of_the_field",
    ),
    Mutant(
        "a segment without an end is the whole video",
        FORMS,
        "    if not start and not end:",
        "    if not start or not end:",
        f"{TEST_FORMS}::test_a_bad_row_is_named_by_its_line",
    ),
    Mutant(
        "a segment may end before it starts",
        FORMS,
        "and 0 <= begin < stop):",
        "and 0 <= begin and 0 <= stop):",
        f"{TEST_FORMS}::test_a_bad_row_is_named_by_its_line",
    ),
    Mutant(
        "line numbers don't count the line breaks within names",
        FORMS,
        "            line = reader.line_num + 1",
        "            line += 1",
        f"{TEST_FORMS}::test_a_bad_row_is_named_by_its_line",
    ),
    Mutant(
        "cells beyond the header's are dropped",
        FORMS,
        "        if len(cells) != len(columns):",
        "        if len(cells) < len(columns):",
        f"{TEST_FORMS}::test_a_bad_row_is_named_by_its_line",
    ),
    Mutant(
        "a part of SSv2 may be mirrored",
        ANNOTATIONS,
        "flip_allowed=dataset not in NO_FLIP and not has_sides(classes)",
        "flip_allowed=(dataset not in NO_FLIP or bool(notes)) and not has_sides(classes)",
        f"{TEST_ANNOTATIONS}::test_a_part_of_a_collection_keeps_its_rules",
    ),
    Mutant(
        "classes named by left and right are mirrored in lists of one's own",
        ANNOTATIONS,
        "flip_allowed=dataset not in NO_FLIP and not has_sides(classes)",
        "flip_allowed=dataset not in NO_FLIP",
        f"{TEST_ANNOTATIONS}::test_classes_that_mirror_each_other_are_not_mirrored",
    ),
    Mutant(
        "a label may be the number of classes",
        ANNOTATIONS,
        "        if known and entry.label >= known:",
        "        if known and entry.label > known:",
        f"{TEST_ANNOTATIONS}::test_wrong_lists",
    ),
    Mutant(
        "videos beside class folders are silently left out",
        ANNOTATIONS,
        "    if classes and top_level:",
        "    if classes and len(top_level) > len(found):",
        f"{TEST_ANNOTATIONS}::test_videos_beside_class_folders_are_refused",
    ),
    Mutant(
        "a missing file is remembered as bad",
        SCAN,
        "isinstance(cause, (FileNotFoundError, PermissionError, MemoryError))",
        "isinstance(cause, MemoryError)",
        f"{TEST_SCAN}::test_scan_says_what_is_fit {TEST_SCAN}::test_the_files_faults_are_told_from_the_machines",
    ),
    Mutant(
        "a quick scan stands for a full one",
        MANIFEST,
        'return row if row.status == "bad" or depth == "quick" or row.depth == "full" else None',
        "return row",
        f"{TEST_MANIFEST}::test_which_rows_spare_a_look",
    ),
    Mutant(
        "a row is valid for a changed file",
        MANIFEST,
        "row = self._rows[name].get(current) if current is not None else None",
        "row = next(iter(self._rows[name].values())) if current is not None else None",
        f"{TEST_MANIFEST}::test_which_rows_spare_a_look",
    ),
    Mutant(
        "a file's time doesn't count, its size only",
        MANIFEST,
        "            return found.st_size, found.st_mtime_ns",
        "            return found.st_size, 1",
        f"{TEST_MANIFEST}::test_which_rows_spare_a_look",
    ),
    Mutant(
        "training leaves repaired files out",
        MANIFEST,
        "return None if row is None else row.reason",
        "return next(iter(rows.values())).reason if row is None else row.reason",
        f"{TEST_MANIFEST}::test_what_training_leaves_out_and_why",
    ),
    Mutant(
        "a row that was cut short stays in the file",
        MANIFEST,
        "        os.ftruncate(self._file, len(whole))",
        "        os.ftruncate(self._file, len(text))",
        f"{TEST_MANIFEST}::test_rows_come_back_and_an_interruption_costs_the_last",
    ),
    Mutant(
        "what the disk didn't take of a row is dropped",
        MANIFEST,
        "            while remaining:",
        "            if remaining:",
        f"{TEST_SCAN}::test_a_full_disk_is_one_line_and_loses_nothing",
    ),
    Mutant(
        "a damaged source is re-encoded",
        REENCODE,
        "        reader.verify()",
        "        reader.info()",
        TEST_REENCODE,
    ),
    Mutant(
        "a copy of other options is taken for done",
        REENCODE,
        "if target.exists() and comment(target) == tag:",
        "if target.exists() and comment(target):",
        f"{TEST_REENCODE}::test_a_copy_of_other_options_or_another_source_is_encoded_again",
    ),
    Mutant(
        "uneven times are rounded to a frame rate's grid",
        REENCODE,
        '*frame_sync(), "-enc_time_base", f"{time_base.numerator}/{time_base.denominator}",',
        "*frame_sync(),",
        f"{TEST_REENCODE}::test_uneven_times_are_kept",
    ),
    Mutant(
        "a copy's times aren't compared",
        REENCODE,
        "    if errors[worst] > TIME_TOLERANCE:",
        "    if errors[0] > TIME_TOLERANCE:",
        f"{TEST_REENCODE}::test_a_copy_that_differs_is_not_kept",
    ),
    Mutant(
        "of equal names in two class folders the first is taken",
        LISTING,
        "folders=(*SPLIT_FOLDERS[split], *clip.folders)",
        "folders=SPLIT_FOLDERS[split]",
        f"{TEST_PREPARE}::test_equal_names_in_two_class_folders_are_told_apart",
    ),
    Mutant(
        "a Kinetics row without a label is unlabelled in training, too",
        "datasets/kinetics.py",
        'labelled=split != "test"',
        "labelled=False",
        f"{TEST_PREPARE}::test_a_line_of_kinetics_that_is_not_whole_is_named",
    ),
    Mutant(
        "the mirroring that is printed is the collection's, whatever the list's classes",
        "diffmae_video/build/datasets.py",
        "if videos is None else videos.flip_allowed",
        "if videos is None else True",
        "tests/engine/test_build.py::test_the_mirroring_that_is_said_is_the_one_that_is_done",
    ),
    Mutant(
        "a folder with fewer images than listed is read",
        "diffmae_video/data/decoding/image_folder.py",
        "        if len(names) < num_images:",
        "        if len(names) < 1:",
        f"{TEST_SCAN}::test_training_and_tests_hold_folders_to_the_listed_number_of_images",
    ),
    Mutant(
        "a list that is given as a manifest is to be deleted",
        "diffmae_video/data/manifest.py",
        "    if header[:2] == COLUMNS[:2] and header != COLUMNS:",
        "    if header != COLUMNS:",
        "tests/data/test_manifest.py::test_another_file_is_neither_read_nor_touched",
    ),
    Mutant(
        "an older manifest isn't said to be one",
        "diffmae_video/data/manifest.py",
        "    if header[:2] == COLUMNS[:2] and header != COLUMNS:",
        "    if header[:1] == COLUMNS[1:2] and header != COLUMNS:",
        "tests/data/test_manifest.py::test_another_file_is_neither_read_nor_touched",
    ),
    Mutant(
        "a validation file without videos gives an empty list",
        "datasets/listing.py",
        "        if not match.rows and not match.missing:",
        "        if split == 'train' and not match.rows and not match.missing:",
        "tests/datasets/test_prepare.py::test_an_official_file_without_videos_is_refused",
    ),
]
