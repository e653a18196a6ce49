"""The command lines of tools/submit.py and tools/sweep.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.config import load_config
from diffmae_video.errors import UserError
from diffmae_video.launch.local import run_local
from diffmae_video.launch.plot import plot_rows
from diffmae_video.launch.records import Submission, record_folder
from diffmae_video.launch.slurm import cancel
from diffmae_video.launch.submission import check_folder, check_plan, plan_phases, script_of, select_points, submit
from diffmae_video.launch.sweep import Point, file_points, product_points, single_point
from diffmae_video.launch.table import Row, find_runs, latest_jobs, read_rows, to_csv, to_text

_ENDED = ("failed", "cancelled", "interrupted", "lost")


def submit_main(arguments: Sequence[str] | None = None) -> int:
    """Command line of tools/submit.py."""
    args = _submit_parser().parse_intermixed_args(arguments)
    return run_command(lambda: _submit(args))


def sweep_main(arguments: Sequence[str] | None = None) -> int:
    """Command line of tools/sweep.py."""
    args = _sweep_parser().parse_args(arguments)
    return run_command(lambda: _sweep(args))


def _submit_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Submit a config, or a sweep over it, to SLURM.")
    parser.add_argument("--cfg", required=True, help="the config, a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to change, in order")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch scripts and submit nothing")
    parser.add_argument("--local", action="store_true", help="run on this machine, through submitit's local executor")
    parser.add_argument("--sweep", nargs="+", default=[], metavar="key=v1,v2", help="every combination of these values")
    parser.add_argument("--sweep-file", default="", metavar="YAML", help="named points, name: {key: value, ...}")
    parser.add_argument(
        "--max-parallel", type=whole_number(1), help="points at a time; default: all on SLURM, 1 with --local"
    )
    parser.add_argument(
        "--split-stages", action="store_true", help="one job per stage, with the resources of slurm.stages"
    )
    return parser


def _submit(args: argparse.Namespace) -> int:
    points = _points(args)
    if points[0].config.slurm.stages and not args.split_stages:
        print("note: slurm.stages is not used without --split-stages", file=sys.stderr)
    phases = plan_phases(points, split_stages=args.split_stages)
    folder = _output_folder(points)
    check_folder(folder)
    if args.dry_run:
        code = record_folder(folder) / "code-HASH"
        for phase in phases:
            print(script_of(phase, folder=folder, code=code, max_parallel=args.max_parallel or len(points)))
        return 0
    if not args.local:
        check_plan(phases)
    chosen, notes = select_points(points)
    for note in notes:
        print(note)
    if not chosen:
        return 0
    phases = plan_phases(chosen, split_stages=args.split_stages)
    if args.local:
        ends = run_local(phases, chosen, folder=folder, max_parallel=args.max_parallel or 1)
        return 0 if all(end.end == "finished" for end in ends) else 1
    entries = submit(phases, chosen, folder=folder, max_parallel=args.max_parallel or len(chosen))
    _print_submissions(entries, folder)
    return 0


def _points(args: argparse.Namespace) -> list[Point]:
    if args.sweep and args.sweep_file:
        raise UserError("--sweep and --sweep-file: give one of them")
    if args.sweep:
        return product_points(args.cfg, args.overrides, args.sweep)
    if args.sweep_file:
        return file_points(args.cfg, args.overrides, args.sweep_file)
    return [single_point(args.cfg, args.overrides)]


def _output_folder(points: Sequence[Point]) -> Path:
    """The sweep's folder, or the run's."""
    first = Path(points[0].config.output_dir)
    return first.parent if points[0].name else first


def _print_submissions(entries: Sequence[Submission], folder: Path) -> None:
    for entry in entries:
        print(f"job {entry.job}: {', '.join(entry.stages)}\n  config {entry.config}\n  logs   {entry.logs}")
    print(f"code   {entries[0].code}")
    print(f"watch  python tools/sweep.py {folder}")
    print(f"cancel python tools/sweep.py {folder} --cancel")


def _sweep_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Show the state of a sweep, or of any runs.")
    parser.add_argument("folders", nargs="+", metavar="folder", help="folder of a sweep or a run (its output_dir)")
    parser.add_argument("--csv", default="", metavar="FILE", help="write the table as CSV as well")
    parser.add_argument("--plot", default="", metavar="FILE", help="draw the metric against each swept key")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--resubmit", choices=("failed",), help="resubmit runs that ended unfinished")
    parser.add_argument("--max-parallel", type=whole_number(1), help="with --resubmit: points at a time")
    action.add_argument("--cancel", action="store_true", help="cancel all pending and running jobs")
    return parser


def _sweep(args: argparse.Namespace) -> int:
    if args.resubmit and len(args.folders) > 1:
        raise UserError("--resubmit: the jobs' logs go to one folder; give one folder")
    rows = read_rows(find_runs(args.folders))
    print(to_text(rows))
    if args.csv:
        Path(args.csv).write_text(to_csv(rows), encoding="utf-8")
    if args.plot:
        print(f"{args.plot}: {plot_rows(rows, args.plot)} against each swept key")
    if args.cancel:
        # Of local runs `live` holds process ids: scancel would cancel the SLURM job of that number.
        live_jobs = [job for row in rows for job in row.live if row.cluster == "slurm"]
        cancel(live_jobs)
        print(f"cancelled {len(live_jobs)} jobs")
        for row in rows:
            if row.state == "running" and row.cluster != "slurm":
                print(f"{row.folder}: runs outside SLURM; stop it where it runs, with Ctrl-C or kill")
    if args.resubmit:
        ended = [row for row in rows if row.state in _ENDED]
        for row in ended:
            if not row.cluster:
                print(f"{row.folder}: was not submitted; resume it with the command that started it")
        submitted = [row for row in ended if row.cluster]
        _resubmit(submitted, Path(args.folders[0]).resolve(), max_parallel=args.max_parallel)
    return 0


def _resubmit(rows: Sequence[Row], folder: Path, *, max_parallel: int | None) -> None:
    """Resubmit runs with the config, cluster and stage splitting of their last submission."""
    groups: dict[str, list[Point]] = {}
    for row in rows:
        jobs = latest_jobs(Path(row.folder))
        cfg = str(record_folder(row.folder) / "config.yaml")
        config = load_config(cfg)
        point = Point(name=row.point, cfg=cfg, overrides=(), config=config, params=row.params)
        # All tasks of an array share these settings, so runs that differ in them need separate submissions.
        group_key = repr((jobs[-1].cluster, len(jobs) > 1, config.stages, config.slurm))
        groups.setdefault(group_key, []).append(point)
    submissions = []
    # Check every group before the first one is submitted.
    for points in groups.values():
        jobs = latest_jobs(Path(points[0].config.output_dir))
        phases = plan_phases(points, split_stages=len(jobs) > 1)
        if jobs[-1].cluster == "slurm":
            check_plan(phases)
        submissions.append((jobs[-1].cluster, phases, points))
    for cluster, phases, points in submissions:
        if cluster == "local":
            run_local(phases, points, folder=folder, max_parallel=max_parallel or 1)
        else:
            _print_submissions(submit(phases, points, folder=folder, max_parallel=max_parallel or len(points)), folder)
