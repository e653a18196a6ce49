"""The command lines of tools/submit.py and tools/sweep.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffmae_video.command_line import Parser, run_command, whole_number
from diffmae_video.errors import UserError
from diffmae_video.launch.cluster import cancel
from diffmae_video.launch.local import run_local
from diffmae_video.launch.plot import plot_rows
from diffmae_video.launch.points import Point, file_points, product_points, single_point
from diffmae_video.launch.records import Submission, record_folder
from diffmae_video.launch.submission import check_folder, check_plan, plan_phases, script_of, select_points, submit
from diffmae_video.launch.table import Row, find_runs, latest_jobs, read_rows, to_csv, to_text
from diffmae_video.recipe import load_recipe

_ENDED = ("failed", "cancelled", "interrupted", "lost")


def submit_main(arguments: Sequence[str] | None = None) -> int:
    """Command line of tools/submit.py."""
    parsed = _submit_parser().parse_intermixed_args(arguments)
    return run_command(lambda: _submit(parsed))


def sweep_main(arguments: Sequence[str] | None = None) -> int:
    """Command line of tools/sweep.py."""
    parsed = _sweep_parser().parse_args(arguments)
    return run_command(lambda: _sweep(parsed))


def _submit_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Submit a recipe, or a sweep over it, to SLURM.")
    parser.add_argument("--cfg", required=True, help="the recipe, a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys to change, in order")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch scripts and submit nothing")
    parser.add_argument("--local", action="store_true", help="run here instead, through submitit's local executor")
    parser.add_argument("--sweep", nargs="+", default=[], metavar="key=v1,v2", help="every combination of these values")
    parser.add_argument("--sweep-file", default="", metavar="YAML", help="named points, name: {key: value, ...}")
    parser.add_argument("--max-parallel", type=whole_number(1), help="points at a time; all on SLURM, 1 with --local")
    parser.add_argument("--split-stages", action="store_true", help="a job a stage, with slurm.stages' resources")
    return parser


def _submit(asked: argparse.Namespace) -> int:
    points = _points(asked)
    phases = plan_phases(points, split_stages=asked.split_stages)
    folder = _folder_of(points)
    check_folder(folder)
    if asked.dry_run:
        code = record_folder(folder) / "code-HASH"
        for phase in phases:
            print(script_of(phase, folder=folder, code=code, max_parallel=asked.max_parallel or len(points)))
        return 0
    if not asked.local:
        check_plan(phases)
    chosen, notes = select_points(points)
    for note in notes:
        print(note)
    if not chosen:
        return 0
    phases = plan_phases(chosen, split_stages=asked.split_stages)
    if asked.local:
        ends = run_local(phases, chosen, folder=folder, max_parallel=asked.max_parallel or 1)
        return 0 if all(end.end == "finished" for end in ends) else 1
    entries = submit(phases, chosen, folder=folder, max_parallel=asked.max_parallel or len(chosen))
    _tell_submitted(entries, folder)
    return 0


def _points(asked: argparse.Namespace) -> list[Point]:
    if asked.sweep and asked.sweep_file:
        raise UserError("--sweep and --sweep-file: give one of them")
    if asked.sweep:
        return product_points(asked.cfg, asked.overrides, asked.sweep)
    if asked.sweep_file:
        return file_points(asked.cfg, asked.overrides, asked.sweep_file)
    return [single_point(asked.cfg, asked.overrides)]


def _folder_of(points: Sequence[Point]) -> Path:
    """The sweep's folder, or the run's."""
    first = Path(points[0].recipe.output_dir)
    return first.parent if points[0].name else first


def _tell_submitted(entries: Sequence[Submission], folder: Path) -> None:
    for entry in entries:
        print(f"job {entry.job}: {', '.join(entry.stages)}\n  recipe {entry.recipe}\n  logs   {entry.logs}")
    print(f"code   {entries[0].code}")
    print(f"watch  python tools/sweep.py {folder}")
    print(f"cancel python tools/sweep.py {folder} --cancel")


def _sweep_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Show the state of a sweep, or of any runs.")
    parser.add_argument("folders", nargs="+", metavar="folder", help="folder of a sweep or a run (its output_dir)")
    parser.add_argument("--csv", default="", metavar="FILE", help="write the table as CSV as well")
    parser.add_argument("--plot", default="", metavar="FILE", help="draw the metric against each swept key")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--resubmit", choices=("failed",), help="submit again what ended unfinished")
    parser.add_argument("--max-parallel", type=whole_number(1), help="with --resubmit: points at a time")
    what.add_argument("--cancel", action="store_true", help="cancel every job that waits or runs")
    return parser


def _sweep(asked: argparse.Namespace) -> int:
    if asked.resubmit and len(asked.folders) > 1:
        raise UserError("--resubmit: give one folder, in which the jobs' logs go")
    rows = read_rows(find_runs(asked.folders))
    print(to_text(rows))
    if asked.csv:
        Path(asked.csv).write_text(to_csv(rows), encoding="utf-8")
    if asked.plot:
        print(f"{asked.plot}: {plot_rows(rows, asked.plot)} against each swept key")
    if asked.cancel:
        live = [job for row in rows for job in row.live if row.cluster == "slurm"]
        cancel(live)
        print(f"cancelled {len(live)} jobs")
        for row in rows:
            if row.state == "running" and row.cluster != "slurm":
                print(f"{row.folder}: runs outside SLURM; stop it where it runs, with Ctrl-C or kill")
    if asked.resubmit:
        ended = [row for row in rows if row.state in _ENDED]
        for row in ended:
            if not row.cluster:
                print(f"{row.folder}: was not submitted; the command that started it goes on")
        again = [row for row in ended if row.cluster]
        _resubmit(again, Path(asked.folders[0]).resolve(), max_parallel=asked.max_parallel)
    return 0


def _resubmit(rows: Sequence[Row], folder: Path, *, max_parallel: int | None) -> None:
    """Submit runs again with the recipes, the cluster and the way of splitting that they had."""
    groups: dict[str, list[Point]] = {}
    for row in rows:
        jobs = latest_jobs(Path(row.folder))
        cfg = str(record_folder(row.folder) / "recipe.yaml")
        recipe = load_recipe(cfg)
        point = Point(name=row.point, cfg=cfg, overrides=(), recipe=recipe, differs=row.differs)
        # The jobs of an array share these.
        alike = repr((jobs[-1].cluster, len(jobs) > 1, recipe.stages, recipe.slurm))
        groups.setdefault(alike, []).append(point)
    plans = []
    for points in groups.values():
        jobs = latest_jobs(Path(points[0].recipe.output_dir))
        phases = plan_phases(points, split_stages=len(jobs) > 1)
        if jobs[-1].cluster == "slurm":
            check_plan(phases)
        plans.append((jobs[-1].cluster, phases, points))
    for cluster, phases, points in plans:
        if cluster == "local":
            run_local(phases, points, folder=folder, max_parallel=max_parallel or 1)
        else:
            _tell_submitted(submit(phases, points, folder=folder, max_parallel=max_parallel or len(points)), folder)
