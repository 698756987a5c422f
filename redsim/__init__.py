"""redsim: a discrete-event simulator of Redis internals."""

__version__ = "0.1.0"
