"""Progress bars on stderr, gone when done: simulated time with its rate and commands per second; or steps of anything long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from redsim.units import S

Report = Callable[[int, int], None]
Share = Callable[[str, float], None]  # what is being done, share of the whole done


@contextmanager
def progress_bar(duration_ns: int, *, quiet: bool) -> Iterator[Report | None]:
    """A function to call with (simulated ns, commands); None when quiet. Drawn on stderr, gone when done."""
    if quiet:
        yield None
        return
    bar = Progress(
        TextColumn("{task.fields[simulated]}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, refresh_per_second=5,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=duration_ns, simulated="compiling", rate="")

        def report(now_ns: int, commands: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            rate = f"{now_ns / S / elapsed:.1f}x real time, {commands / elapsed:,.0f} commands/s" if elapsed > 0.2 else ""
            bar.update(task, completed=min(now_ns, duration_ns), simulated=f"{now_ns / S:.1f} s simulated", rate=rate)

        yield report


@contextmanager
def share_bar(first: str, *, quiet: bool) -> Iterator[Share]:
    """A function to call with (what is being done, share done 0..1); it does nothing when quiet. `first`: until then."""
    if quiet:
        yield lambda _what, _share: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal) as bar:
        task = bar.add_task(first, total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
