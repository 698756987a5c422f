"""What a MONITOR capture adds to an observation: which keys are popular, how large the written values are, what one call names.

Mirrors nothing in Redis. Differs: a call counts for its first key only; a key's type is that of the commands sent to it.
Not modelled: popularity that drifts, keys that only some clients use. No key and no value is kept.
"""

import numpy as np

from redsim.lab.observed import Traffic
from redsim.lab.popularity import fit
from redsim.redis.commands import COMMANDS, Command
from redsim.run.kinds import SAME_AS
from redsim.scenario.monitor import MonitorCapture
from redsim.units import S
from redsim.workload.tables import table_of


def known(name: str) -> Command | None:
    """redsim's command for a name of a capture or of commandstats (`INCRBY` is INCR's), None if there is none."""
    return COMMANDS.get(SAME_AS.get(name, name))


def one_type(name: str) -> str:
    """The key type a command works on, "" if several, none, or the command is unknown."""
    command = known(name)
    return command.types[0] if command is not None and len(command.types) == 1 else ""


def traffic_of(capture: MonitorCapture, keys_of: dict[str, int] | None) -> Traffic:
    """The capture in figures; `keys_of`: key type -> keys in the data set, None where nobody counted them."""
    names = capture.names
    types = np.array([one_type(name) for name in names])[capture.command]
    out = Traffic(len(capture), max(capture.span_ns, 1) / S, connections=int(np.unique(capture.client[capture.client >= 0]).size))
    for kind in sorted(set(types.tolist()) - {""}):
        keys = capture.key[(types == kind) & (capture.key >= 0)]
        if keys.size:
            _, counts = np.unique(keys, return_counts=True)
            out.popularity[kind] = fit(counts, keys_of.get(kind) if keys_of is not None else None)
    for code, name in enumerate(names):
        mine = capture.command == code
        scripted = mine & (capture.client < 0)
        if scripted.any():
            out.inside_scripts[name] = float(scripted.sum() / mine.sum())
        many = float(capture.elements[mine].mean())
        if known(name) is not None and many > 1:
            out.uses[name] = round(many)
        written = capture.value_bytes[mine]
        if (written >= 0).any():
            out.written[name] = table_of(written[written >= 0].astype(np.int64))
    return out
