"""The command line, nothing else: run, lint, list, size, rehearse, plan; and with a real Redis: calibrate, observe, validate.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C (a valid report marked partial is left behind).
"""

import gc
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from redsim.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from redsim.redis.config import Rules

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="A discrete-event simulator of Redis internals.")  # fmt: skip
BAD_INPUT = 2
INTERRUPTED = 130
GARBAGE_OBJECTS = 100_000  # Python looks for cycles after 700: a tenth of the time of a short run, nearly all of it among modules


def _die(error: ScenarioError) -> NoReturn:
    sys.stdout.flush()
    typer.echo(str(error), err=True)
    raise typer.Exit(BAD_INPUT)


@contextmanager
def _leaving(what: str) -> Iterator[None]:
    """Bad input and files that cannot be written are one sentence; Ctrl-C says so."""
    try:
        yield
    except (ScenarioError, OSError) as error:
        _die(error if isinstance(error, ScenarioError) else ScenarioError(f"the {what} cannot be written ({error}); give --out"))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML).")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default reports/<scenario>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the scenario's seed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. nodes.main.conf.io-threads=4.")] = None,
    against: Annotated[Path | None, typer.Option(help="An observed.json of `observe`: print predicted beside measured.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Also write trace.json for ui.perfetto.dev.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no headline.")] = False,
) -> None:
    """Simulate a scenario and write its report."""
    gc.set_threshold(GARBAGE_OBJECTS)
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
    result.summary["findings"] = [{"severity": f.severity, "text": f.text, "directive": f.directive} for f in findings(result)]
    folder = out or Path("reports") / loaded.name
    try:
        write_report(result, folder, trace=trace)
    except OSError as error:
        _die(ScenarioError(f"{folder}: the report cannot be written ({error.strerror}); give another folder with --out"))
    if against is not None:
        from redsim.lab.observed import against as beside

        try:
            typer.echo("\n".join(beside(against, result.summary)))
        except ScenarioError as error:
            _die(error)
    if not quiet:
        typer.echo(headline(result))
        typer.echo(f"report: {folder / 'report.html'}")
    if result.partial:
        raise typer.Exit(INTERRUPTED)


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="A scenario (YAML), a redis.conf or a sentinel.conf.")],
    version: Annotated[str, typer.Option(help="Redis version, for a redis.conf.")] = "7.0",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, as for run.")] = None,
) -> None:
    """Check a scenario, a redis.conf or a sentinel.conf without running it; tell what each directive becomes."""
    from redsim.run.build import check
    from redsim.scenario.load import load
    from redsim.scenario.services import read_any_conf

    try:
        if file.suffix in (".conf", ".cnf"):
            confs = [read_any_conf(file, version)]
        else:
            scenario = load(file, set_ or [])
            check(scenario)
            confs = [*scenario.confs.values(), *([scenario.sentinel_conf] if scenario.sentinel_conf else [])]
    except ScenarioError as error:
        _die(error)
    for conf in confs:
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


@app.command()
def size(
    what: Annotated[
        str | None,
        typer.Argument(
            help="string, list, hash, set, zset: one key by its lengths; a scenario (YAML); an RDB file; "
            "or what redis-cli --bigkeys, --memkeys printed."
        ),
    ] = None,
    elements: Annotated[int, typer.Option(min=1, help="Of a list, hash, set or zset.")] = 1,
    key_bytes: Annotated[int, typer.Option(min=0, help="Length of the key.")] = 16,
    field_bytes: Annotated[int, typer.Option(min=0, help="Length of a hash's fields.")] = 8,
    value_bytes: Annotated[int, typer.Option(min=0, help="Length of the value, or of each element.")] = 100,
    version: Annotated[str | None, typer.Option(help="Redis version; default 7.0, or what the records say.")] = None,
    allocator: Annotated[str | None, typer.Option(help="jemalloc (Redis' own), jemalloc-debian (the system's) or libc.")] = None,
    conf: Annotated[list[str] | None, typer.Option(help="A directive, e.g. hash-max-listpack-entries=128.")] = None,
    records: Annotated[Path | None, typer.Option(help="Keys with the steps that built them (JSON), instead of one key.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the sizes of records or of an RDB file are written (JSON).")] = None,
    datasets: Annotated[Path | None, typer.Option(help="Where the file's data sets are written, for a scenario (YAML).")] = None,
) -> None:
    """Tell how much memory a key, a data set or an RDB file takes, as MEMORY USAGE and OBJECT ENCODING would."""
    from redsim.run import size as sizes
    from redsim.run.size_scenario import scenario_lines
    from redsim.scenario.load import load

    try:
        if what is not None and what.endswith((".yaml", ".yml")):
            lines = scenario_lines(load(Path(what), []))
        elif what is not None and (Path(what).is_file() or what.endswith(".rdb")):
            lines = _size_of_file(Path(what), sizes.Build(version, allocator, conf or []).rules(), out, datasets)
        else:
            shape = sizes.KeyShape(what or "", elements, key_bytes, field_bytes, value_bytes)
            lines = sizes.told(shape, sizes.Build(version, allocator, conf or []), records, out)
        for line in lines:
            typer.echo(line)
    except ScenarioError as error:
        _die(error)


def _size_of_file(path: Path, rules: "Rules", out: Path | None, datasets: Path | None) -> list[str]:
    """An RDB file is the simulator's to read; what redis-cli printed is the lab's, as in `observe`."""
    from redsim.run.size_file import is_text, rdb_lines, write_text

    if not is_text(path):
        return rdb_lines(path, rules, out=out, datasets=datasets)
    from redsim.lab.size_keys import keys_datasets_text, keys_lines

    if datasets is not None:
        write_text(datasets, keys_datasets_text(path))
    return keys_lines(path)


@app.command()
def rehearse(
    trace: Annotated[
        Path, typer.Argument(help="Accesses in order: CSV (time,key[,size][,op][,ttl]), oracleGeneral, int32 keys; .gz, .xz.")
    ],
    maxmemory: Annotated[str | None, typer.Option(help="The limit, e.g. 100mb.")] = None,
    capacity: Annotated[int | None, typer.Option(help="The limit in keys, instead.")] = None,
    policy: Annotated[str, typer.Option(help="maxmemory-policy, several with commas, or all.")] = "allkeys-lru",
    samples: Annotated[str, typer.Option(help="maxmemory-samples, several with commas.")] = "5",
    curve: Annotated[int, typer.Option(help="Also at so many limits, from 0.5 % of what all keys take to all of it.")] = 0,
    seeds: Annotated[int, typer.Option(help="Repetitions of what luck decides, for an interval.")] = 1,
    ttl: Annotated[str | None, typer.Option(help="Of every key written, e.g. 1h, where the trace has none.")] = None,
    rate: Annotated[int | None, typer.Option(help="Accesses per second, instead of the trace's times.")] = None,
    key_bytes: Annotated[int | None, typer.Option(help="Of every key, instead of the trace's.")] = None,
    value_bytes: Annotated[int | None, typer.Option(help="Of every value, instead of the trace's.")] = None,
    lfu_log_factor: Annotated[int, typer.Option(help="As in redis.conf.")] = 10,
    lfu_decay_time: Annotated[int, typer.Option(help="As in redis.conf: minutes, 0 never.")] = 1,
    allocator: Annotated[str, typer.Option(help="jemalloc (upstream), jemalloc-debian, libc.")] = "jemalloc",
    form: Annotated[str, typer.Option("--format", help="auto, csv, oracleGeneral, int32.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the page, JSON and CSV; default reports/<trace>.")] = None,
    seed: Annotated[int, typer.Option(help="Of the luck in sampling.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no table.")] = False,
) -> None:
    """Replay a trace of accesses key by key: hit ratio of each eviction policy, with exact LRU and Belady's optimum as bounds."""
    from redsim.report.rehearsal import lines, write_rehearsal
    from redsim.run.progress import share_bar
    from redsim.run.rehearse import cached_as_written, rehearsal

    with _leaving("report"):
        cached = cached_as_written(
            maxmemory=maxmemory, capacity=capacity, samples=samples, ttl=ttl, rate_per_s=rate, key_bytes=key_bytes,
            value_bytes=value_bytes, lfu_log_factor=lfu_log_factor, lfu_decay_time=lfu_decay_time, allocator=allocator,
        )  # fmt: skip
        with share_bar("reading the trace", quiet=quiet) as progress:
            done = rehearsal(
                trace, cached, policies=policy.split(","), curve=curve, seeds=seeds, seed=seed, form=form, progress=progress
            )
        folder = out or Path("reports") / trace.name.split(".")[0]
        files = write_rehearsal(done, folder, "redsim rehearse " + shlex.join(sys.argv[2:]))
    if not quiet:
        typer.echo("\n".join([*lines(done), f"report: {files[0]}"]))


plan_app = typer.Typer(no_args_is_help=True, help="Sizes to paste into redis.conf, with the simulation that they come from.")
app.add_typer(plan_app, name="plan")


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
    from redsim.report.plan_memory import lines, write_plan
    from redsim.run import plan_memory as planning
    from redsim.run.progress import share_bar
    from redsim.scenario.load import load

    with _leaving("plan"):
        loaded = load(scenario, set_ or [])
        with share_bar("planning", quiet=quiet) as progress:
            plan = planning.plan_memory(loaded, box=box, repeats=repeats, reserve=reserve, processes=processes, progress=progress)
        folder = out or Path("reports") / loaded.name
        files = write_plan(plan, folder, "redsim plan memory " + shlex.join(sys.argv[3:]))
    if not quiet:
        typer.echo("\n".join([*lines(plan), f"report: {files[0]}"]))


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
    from redsim.report.plan_backlog import lines, write_plan
    from redsim.run import plan_backlog as planning
    from redsim.run.progress import share_bar

    with _leaving("plan"):
        source = planning.source_of(scenario, offsets, set_ or [])
        with share_bar("planning", quiet=quiet) as progress:
            plan = planning.plan_backlog(
                source, outage, target=target, draws=draws, silent=silent, full_sync=full_sync, rtt=rtt, ram=ram,
                replicas=replicas, conf=conf, version=version, seed=seed, progress=progress,
            )  # fmt: skip
        folder = out or Path("reports") / f"{plan.name}-backlog"
        files = write_plan(plan, folder, "redsim plan backlog " + shlex.join(sys.argv[3:]))
    if not quiet:
        typer.echo("\n".join([*lines(plan), f"report: {files[0]}"]))


# ---- with a real Redis -------------------------------------------------------------------------------------------------------


@contextmanager
def _lab() -> Iterator[None]:
    """Bad input, a missing server and a missing redis-py are one sentence; Ctrl-C says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        _die(ScenarioError("this talks to a real Redis through redis-py; `pip install 'redsim-des[lab]'` brings it"))
    except ScenarioError as error:
        _die(error)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="Where the host profile is written.")] = Path("profile.yaml"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several; wider spreads.")] = False,
    url: Annotated[str | None, typer.Option(help="A server of yours instead of one started here; commands only.")] = None,
    yes_load_it: Annotated[bool, typer.Option("--yes-load-it", help="With --url: yes, put load on that server.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where fsync and RDB are measured; default the temporary folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Measure what Redis costs on this machine and write a host profile. Ctrl-C and again goes on where it stopped."""
    with _lab():
        from redsim.lab.calibrate import calibrate_to

        for line in calibrate_to(out, quick=quick, url=url, yes_load_it=yes_load_it, folder=folder, quiet=quiet):
            typer.echo(line)


@app.command()
def observe(
    sources: Annotated[list[str], typer.Argument(help="redis:// URLs, or files: INFO, redis.conf, SLOWLOG, sentinel.conf …")],
    out: Annotated[Path, typer.Option(help="Folder for scenario.yaml, observed.json, offsets.csv.")] = Path("observed"),
    window: Annotated[float, typer.Option(help="Seconds between the two readings of a live server.")] = 10.0,
    monitor: Annotated[float, typer.Option(help="Seconds of MONITOR on a live server; it costs that server throughput.")] = 0.0,
    sample: Annotated[int, typer.Option(help="Keys looked at, at most.")] = 1000,
    budget: Annotated[float, typer.Option(help="Seconds spent on them, at most.")] = 10.0,
    profile: Annotated[str, typer.Option(help="Host profile of the scenario: shipped, or a path.")] = "default",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Write a scenario, and offsets for plan backlog, out of a running server (read-only) or of files attached to a ticket."""
    with _lab():
        from redsim.lab import observe as lab
        from redsim.run.progress import share_bar

        with share_bar("observing", quiet=quiet) as progress:
            lines = lab.command(
                sources, out=out, window_s=window, monitor_s=monitor, sample_keys=sample, budget_s=budget, profile=profile,
                say=lambda text: typer.echo(text, err=True), progress=progress,
            )  # fmt: skip
        for line in lines:
            typer.echo(line)


@app.command()
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
    with _lab():
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


def main() -> None:
    """Entry point: usage errors go the way of bad input, one sentence and exit code 2."""
    app()


if __name__ == "__main__":
    main()
