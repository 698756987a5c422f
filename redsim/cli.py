"""The command line, nothing else: run, lint, list.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C (a valid report marked partial is left behind).
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from redsim.scenario.errors import ScenarioError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="A discrete-event simulator of Redis internals.")  # fmt: skip
BAD_INPUT = 2
INTERRUPTED = 130


def _die(error: ScenarioError) -> None:
    sys.stdout.flush()
    typer.echo(str(error), err=True)
    raise typer.Exit(BAD_INPUT)


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML).")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default reports/<scenario>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the scenario's seed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. nodes.main.conf.io-threads=4.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Also write trace.json for ui.perfetto.dev.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no headline.")] = False,
) -> None:
    """Simulate a scenario and write its report."""
    from redsim.report.files import headline, write_report
    from redsim.report.findings import findings
    from redsim.run import engine
    from redsim.run.progress import progress_bar
    from redsim.scenario.load import load

    try:
        loaded = load(scenario, set_ or [])
        if seed is not None:
            loaded = loaded.with_seed(seed)
        with progress_bar(loaded.file.duration, quiet=quiet) as progress:
            result = engine.run(loaded, progress=progress)
    except ScenarioError as error:
        _die(error)
        return
    result.summary["findings"] = [
        {"severity": f.severity, "text": f.text, "directive": f.directive} for f in findings(result)
    ]
    folder = out or Path("reports") / loaded.name
    try:
        write_report(result, folder, trace=trace)
    except OSError as error:
        _die(ScenarioError(f"{folder}: the report cannot be written ({error.strerror}); give another folder with --out"))
    if not quiet:
        typer.echo(headline(result))
        typer.echo(f"report: {folder / 'report.html'}")
    if result.partial:
        raise typer.Exit(INTERRUPTED)


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="A scenario (YAML) or a redis.conf.")],
    version: Annotated[str, typer.Option(help="Redis version, for a redis.conf.")] = "7.0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, as for run.")] = None,
) -> None:
    """Check a scenario or a redis.conf without running it; tell what each directive becomes."""
    from redsim.run.build import check
    from redsim.scenario.load import load
    from redsim.scenario.redis_conf import parse_conf_file

    try:
        if file.suffix in (".conf", ".cnf"):
            confs = {file.name: parse_conf_file(file, version=version)}
        else:
            scenario = load(file, set_ or [])
            check(scenario)
            confs = scenario.confs
    except ScenarioError as error:
        _die(error)
        return
    for conf in confs.values():
        for line in conf.report():
            place = f"{line.where or file}:{line.number}"
            typer.echo(f"{place}: {line.directive} {line.value}: {line.status}; {line.says}".rstrip("; "))
    typer.echo(f"{file}: no mistakes found")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="scenarios, profiles, commands, directives")] = "scenarios",
    folder: Annotated[Path, typer.Option(help="Where scenarios are looked for.")] = Path("scenarios"),
) -> None:
    """List the scenarios with their questions, the shipped profiles, the commands or the directives."""
    from redsim.run.listing import LISTINGS

    if what not in LISTINGS:
        _die(ScenarioError(f"list {what!r}: redsim lists {', '.join(LISTINGS)}"))
    try:
        for line in LISTINGS[what](folder):
            typer.echo(line)
    except ScenarioError as error:
        _die(error)


def main() -> None:
    """Entry point: usage errors go the way of bad input, one sentence and exit code 2."""
    app()


if __name__ == "__main__":
    main()
