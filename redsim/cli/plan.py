"""`redsim plan`: sizes and settings to paste, with the simulation that they come from."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from redsim.cli.ending import leaving

plan_app = typer.Typer(no_args_is_help=True, help="Sizes to paste into redis.conf, with the simulation that they come from.")


def _leave(report: Any, plan: Any, what: str, folder: Path, quiet: bool) -> None:
    """Write the plan by its module of redsim.report, and tell it."""
    with leaving("plan"):
        files = report.write_plan(plan, folder, f"redsim plan {what} " + shlex.join(sys.argv[3:]))
    if not quiet:
        typer.echo("\n".join([*report.lines(plan), f"report: {files[0]}"]))


@plan_app.command("memory")
def plan_memory(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML).")],
    box: Annotated[str | None, typer.Option(help="Memory of the machine, e.g. 16gb; default the host's.")] = None,
    repeats: Annotated[int, typer.Option(help="Seeds at each size, 2 at least.")] = 5,
    reserve: Annotated[float, typer.Option(help="Share of the box that is left to the system.")] = 0.05,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, JSON and CSV; default reports/<scenario>.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, as for run.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no answer.")] = False,
) -> None:
    """Peak memory of a scenario while it saves and rewrites, and the largest maxmemory that fits the box."""
    from redsim.report import plan_memory as report
    from redsim.run import plan_memory as planning
    from redsim.run.progress import share_bar
    from redsim.scenario.load import load

    with leaving("plan"):
        loaded = load(scenario, set_ or [])
        with share_bar("planning", quiet=quiet) as progress:
            plan = planning.plan_memory(loaded, box=box, repeats=repeats, reserve=reserve, processes=processes, progress=progress)
    _leave(report, plan, "memory", out or Path("reports") / loaded.name, quiet)


@plan_app.command("backlog")
def plan_backlog(
    outage: Annotated[str, typer.Option(help="5s, exponential:5s, lognormal:5s:1.2, uniform:1s:60s, file:outages.txt.")],
    scenario: Annotated[Path | None, typer.Argument(help="A scenario file (YAML) with a replica; or --offsets.")] = None,
    offsets: Annotated[Path | None, typer.Option(help="master_repl_offset over time: CSV (time_s,offset) or saved INFO.")] = None,
    target: Annotated[float, typer.Option(help="Share of the outages that shall end in a partial resync.")] = 0.999,
    draws: Annotated[int, typer.Option(help="Outages drawn.")] = 20_000,
    silent: Annotated[bool, typer.Option("--silent", help="Packets are lost and nobody is told until repl-timeout.")] = False,
    full_sync: Annotated[str | None, typer.Option(help="How long one takes, as for --outage; default as simulated.")] = None,
    rtt: Annotated[str | None, typer.Option(help="Between master and replica; default the scenario's link.")] = None,
    ram: Annotated[str | None, typer.Option(help="Of the master's machine, for the price; default the host's.")] = None,
    replicas: Annotated[int | None, typer.Option(help="How many; default the scenario's, or 1.")] = None,
    conf: Annotated[Path | None, typer.Option(help="With --offsets: the redis.conf of now.")] = None,
    version: Annotated[str, typer.Option(help="With --offsets: the Redis version.")] = "7.0",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for page, JSON and CSV; default reports/<name>-backlog.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, as for run.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no answer.")] = False,
) -> None:
    """How large repl-backlog-size must be for outages to end in a partial resync, and whether a full one gets through."""
    from redsim.report import plan_backlog as report
    from redsim.run import plan_backlog as planning
    from redsim.run.progress import share_bar

    with leaving("plan"):
        source = planning.source_of(scenario, offsets, set_ or [])
        with share_bar("planning", quiet=quiet) as progress:
            plan = planning.plan_backlog(
                source, outage, target=target, draws=draws, silent=silent, full_sync=full_sync, rtt=rtt, ram=ram,
                replicas=replicas, conf=conf, version=version, seed=seed, progress=progress,
            )  # fmt: skip
    _leave(report, plan, "backlog", out or Path("reports") / f"{plan.name}-backlog", quiet)


@plan_app.command("failover")
def plan_failover(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML) with Sentinels and clients that follow them.")],
    repeats: Annotated[int, typer.Option(help="Seeds of each setting and of each thing that happens.")] = 12,
    down_after: Annotated[str | None, typer.Option(help="What to try, e.g. 1s,3s; default 1s to 30s and that of now.")] = None,
    cut: Annotated[str | None, typer.Option(help="How long a host is cut off; default 30s.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Strike as the scenario's own timeline does.")] = False,
    processes: Annotated[int | None, typer.Option(help="Runs at a time; default the cores, 8 at most.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for page, JSON and CSV; default reports/<name>-failover.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, as for run.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no answer.")] = False,
) -> None:
    """Which down-after, quorum, min-replicas and parallel-syncs: outages against false failovers and lost writes."""
    from redsim.report import plan_failover as report
    from redsim.run import plan_failover as planning
    from redsim.run.progress import share_bar
    from redsim.scenario.load import load

    with leaving("plan"):
        loaded = load(scenario, set_ or [])
        with share_bar("planning", quiet=quiet) as progress:
            plan = planning.plan_failover(
                loaded, repeats=repeats, down_after=down_after, cut=cut, own=own, processes=processes, progress=progress
            )
    _leave(report, plan, "failover", out or Path("reports") / f"{plan.name}-failover", quiet)
