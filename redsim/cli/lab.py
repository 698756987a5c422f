"""Commands with a real Redis: calibrate, observe, validate."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from redsim.cli.ending import with_lab


def calibrate(
    out: Annotated[Path, typer.Option(help="Where the host profile is written.")] = Path("profile.yaml"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several; wider spreads.")] = False,
    url: Annotated[str | None, typer.Option(help="A server of yours instead of one started here; commands only.")] = None,
    yes_load_it: Annotated[bool, typer.Option("--yes-load-it", help="With --url: yes, put load on that server.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where fsync and RDB are measured; default the temporary folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Measure what Redis costs on this machine and write a host profile. Ctrl-C and again goes on where it stopped."""
    with with_lab():
        from redsim.lab.calibrate import calibrate_to

        for line in calibrate_to(out, quick=quick, url=url, yes_load_it=yes_load_it, folder=folder, quiet=quiet):
            typer.echo(line)


def observe(
    sources: Annotated[list[str], typer.Argument(help="A redis:// URL, or files: INFO, redis.conf, SLOWLOG, --bigkeys, MONITOR")],
    out: Annotated[Path, typer.Option(help="Folder for scenario.yaml, observed.json, offsets.csv.")] = Path("observed"),
    window: Annotated[float, typer.Option(help="Seconds between the two readings of a live server.")] = 10.0,
    monitor: Annotated[float, typer.Option(help="Seconds of MONITOR on a live server; it costs that server throughput.")] = 0.0,
    sample: Annotated[int, typer.Option(help="Keys looked at, at most.")] = 1000,
    budget: Annotated[float, typer.Option(help="Seconds spent on them, at most.")] = 10.0,
    profile: Annotated[str, typer.Option(help="Host profile of the scenario: shipped, or a path.")] = "default",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Write a scenario, and offsets for plan backlog, out of a running server (read-only) or of files attached to a ticket."""
    with with_lab():
        from redsim.lab import observe as lab
        from redsim.run.progress import share_bar

        with share_bar("observing", quiet=quiet) as progress:
            lines = lab.command(
                sources, out=out, window_s=window, monitor_s=monitor, sample_keys=sample, budget_s=budget, profile=profile,
                say=lambda text: typer.echo(text, err=True), progress=progress,
            )  # fmt: skip
        for line in lines:
            typer.echo(line)


def validate(
    out: Annotated[Path, typer.Option(help="Folder for the pages and cases.csv.")] = Path("reports/validation"),
    profile: Annotated[str | None, typer.Option(help="Host profile; default: calibrate quickly first.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Cases by pattern, e.g. 'keys-*'; may be given again.")] = None,
    pack: Annotated[Path | None, typer.Option(help="Folder of case files; default: the shipped pack.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A third of the time; wider spreads.")] = False,
    record: Annotated[Path | None, typer.Option(help="Keep what is measured in this file, or go on with it.")] = None,
    regrade: Annotated[Path | None, typer.Option(help="Grade a record kept before; nothing is measured.")] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Let every report say what was found here.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Play a pack of cases on a real redis-server and in the model, and publish how far they are apart."""
    with with_lab():
        from redsim.lab import validate as lab
        from redsim.report.trust import published_path
        from redsim.report.validation import write_validation
        from redsim.run.progress import share_bar

        with share_bar("validating", quiet=quiet) as progress:
            if regrade is None:
                outcome = lab.validate(
                    profile=profile, only=only or (), quick=quick, folder=pack, resume=record,
                    progress=lambda share, what: progress(what, share),
                )  # fmt: skip
            else:
                outcome = lab.regraded(regrade, profile=profile, only=only or (), folder=pack)
            data = outcome.page_data("redsim validate " + " ".join(sys.argv[2:]), with_published=not only)
        write_validation(data, out, trust_file=published_path() if publish else None)
        for line in lab.told(outcome):
            typer.echo(line)
        typer.echo(f"pages: {out / 'index.html'}, {out / 'when-not-to-trust.html'}; rows: {out / 'cases.csv'}")
