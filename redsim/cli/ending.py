"""How a command ends: bad input is one sentence on stderr and exit code 2; Ctrl-C is 130 and a valid report marked partial."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from redsim.scenario.errors import ScenarioError

BAD_INPUT = 2
INTERRUPTED = 130


def die(error: ScenarioError) -> NoReturn:
    """The sentence on stderr, behind what was said before."""
    sys.stdout.flush()
    typer.echo(str(error), err=True)
    raise typer.Exit(BAD_INPUT)


@contextmanager
def leaving(what: str) -> Iterator[None]:
    """Bad input and files that cannot be written are one sentence; Ctrl-C says so."""
    try:
        yield
    except (ScenarioError, OSError) as error:
        die(error if isinstance(error, ScenarioError) else ScenarioError(f"the {what} cannot be written ({error}); give --out"))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def with_lab() -> Iterator[None]:
    """Bad input, a missing server and a missing redis-py are one sentence; Ctrl-C says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        die(ScenarioError("this talks to a real Redis through redis-py; `pip install 'redsim-des[lab]'` brings it"))
    except ScenarioError as error:
        die(error)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None
