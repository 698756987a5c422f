"""What every notebook is made of: prose and code cells, and latencies as people say them.

NOT modelled: anything; write.py executes the cells, this makes them.
"""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

import redsim
from redsim.units import say_ns

HERE = Path(__file__).parent
SCENARIOS = HERE.parent / "scenarios"
SETUP = """
%matplotlib inline
%config InlineBackend.figure_formats = ["svg"]
import pandas as pd

import redsim

pd.options.display.float_format = "{:,.2f}".format
"""


def us(value: float) -> str:
    """A latency in µs for people."""
    return say_ns(round(value * 1000))


def say(text: str) -> nbformat.NotebookNode:
    return new_markdown_cell(text.strip())


def do(text: str) -> nbformat.NotebookNode:
    return new_code_cell(text.strip())


def api(result: redsim.Result) -> dict:
    return result.summary["clients"]["api"]
