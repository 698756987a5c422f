"""The command line, nothing else: run, lint, list, size, rehearse, plan; and with a real Redis: calibrate, observe, validate.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 stopped by Ctrl-C (a valid report marked partial is left behind).
"""

import typer

from redsim.cli.ending import BAD_INPUT, INTERRUPTED
from redsim.cli.lab import calibrate, observe, validate
from redsim.cli.plan import plan_app
from redsim.cli.simulate import lint, list_, rehearse, run, size

__all__ = ["BAD_INPUT", "INTERRUPTED", "app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="A discrete-event simulator of Redis internals.")  # fmt: skip
for _command in (run, lint, size, rehearse, calibrate, observe, validate):
    app.command()(_command)
app.command("list")(list_)
app.add_typer(plan_app, name="plan")


def main() -> None:
    """Entry point: usage errors go the way of bad input, one sentence and exit code 2."""
    app()
