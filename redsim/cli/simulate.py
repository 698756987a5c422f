"""Commands that need no Redis: run, lint, list, size, rehearse."""

import gc
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redsim.cli.ending import INTERRUPTED, die, leaving
from redsim.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from redsim.redis.config import Rules

GARBAGE_OBJECTS = 100_000  # Python looks for cycles after 700: a tenth of the time of a short run, nearly all of it among modules


def run(
    scenario: Annotated[Path, typer.Argument(help="A scenario file (YAML).")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default reports/<scenario>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the scenario's seed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override, e.g. nodes.main.conf.io-threads=4.")] = None,
    against: Annotated[Path | None, typer.Option(help="An observed.json of `observe`: print predicted beside measured.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Also write trace.json for ui.perfetto.dev.")] = False,
    repeats: Annotated[int, typer.Option(help="Seeds from the scenario's own on; the report then has distributions.")] = 1,
    processes: Annotated[int | None, typer.Option(help="Runs at a time, with --repeats; default the cores, 8 at most.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no headline.")] = False,
) -> None:
    """Simulate a scenario and write its report."""
    gc.set_threshold(GARBAGE_OBJECTS)
    from redsim.report.files import headline, write_report
    from redsim.report.findings import findings
    from redsim.run import engine
    from redsim.run.progress import progress_bar, share_bar
    from redsim.run.repeats import checked, repeat
    from redsim.scenario.load import load

    try:
        loaded = load(scenario, set_ or [])
        if seed is not None:
            loaded = loaded.with_seed(seed)
        checked(repeats, processes)
        with progress_bar(loaded.file.duration, quiet=quiet) as progress:
            result = engine.run(loaded, progress=progress)
        if repeats > 1 and not result.partial:
            with share_bar("more seeds", quiet=quiet) as share:
                more = repeat(loaded, repeats, processes=processes, first=result, progress=share)
            result = replace(result, repeats=more)
    except ScenarioError as error:
        die(error)
    result.summary["findings"] = [{"severity": f.severity, "text": f.text, "directive": f.directive} for f in findings(result)]
    folder = out or Path("reports") / loaded.name
    try:
        write_report(result, folder, trace=trace)
    except OSError as error:
        die(ScenarioError(f"{folder}: the report cannot be written ({error.strerror}); give another folder with --out"))
    if against is not None:
        from redsim.lab.observed import against as beside

        try:
            typer.echo("\n".join(beside(against, result.summary)))
        except ScenarioError as error:
            die(error)
    if not quiet:
        typer.echo(headline(result))
        typer.echo(f"report: {folder / 'report.html'}")
    if result.partial or (result.repeats is not None and result.repeats.is_partial):
        raise typer.Exit(INTERRUPTED)


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
        die(error)
    for conf in confs:
        for line in conf.report():
            place = f"{line.where or file}:{line.number}"
            typer.echo(f"{place}: {line.directive} {line.value}: {line.status}; {line.says}".rstrip("; "))
    typer.echo(f"{file}: no mistakes found")


def list_(
    what: Annotated[str, typer.Argument(help="scenarios, profiles, commands, directives")] = "scenarios",
    folder: Annotated[Path, typer.Option(help="Where scenarios are looked for.")] = Path("scenarios"),
) -> None:
    """List the scenarios with their questions, the shipped profiles, the commands or the directives."""
    from redsim.run.listing import LISTINGS

    if what not in LISTINGS:
        die(ScenarioError(f"list {what!r}: redsim lists {', '.join(LISTINGS)}"))
    try:
        for line in LISTINGS[what](folder):
            typer.echo(line)
    except ScenarioError as error:
        die(error)


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
        die(error)


def _size_of_file(path: Path, rules: "Rules", out: Path | None, datasets: Path | None) -> list[str]:
    """An RDB file is the simulator's to read; what redis-cli printed is the lab's, as in `observe`."""
    from redsim.run.size_file import is_text, rdb_lines, write_text

    if not is_text(path):
        return rdb_lines(path, rules, out=out, datasets=datasets)
    from redsim.lab.size_keys import keys_datasets_text, keys_lines

    if datasets is not None:
        write_text(datasets, keys_datasets_text(path))
    return keys_lines(path)


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

    with leaving("report"):
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
