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
def ending() -> Iterator[None]:
    """Bad input is one sentence; Ctrl-C says so."""
    try:
        yield
    except ScenarioError as error:
        die(error)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def leaving(what: str) -> Iterator[None]:
    """The same, and of files that cannot be written."""
    with ending():
        try:
            yield
        except OSError as error:
            raise ScenarioError(f"the {what} cannot be written ({error}); give --out") from error


@contextmanager
def with_lab() -> Iterator[None]:
    """The same, and of a missing redis-py."""
    with ending():
        try:
            yield
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            said = "this talks to a real Redis through redis-py; `pip install 'redsim-des[lab]'` brings it"
            raise ScenarioError(said) from error
