"""REPLICAOF: a replica becomes a master, a master a replica, a replica follows another.

Mirrors replication.c of 7.0: replicaofCommand, replicationUnsetMaster (a new replication ID, the old one valid up to here as the
second one; its replicas are disconnected to hear of it), replicationSetMaster, replicationCacheMasterUsingMyself (a master that
becomes a replica asks for a partial resync from its own history on, and keeps its replicas until it knows what it gets).

Differs: a connection that is given up is gone for both ends at once.
Not modelled: FAILOVER.
"""

from collections.abc import Callable

from redsim.dataplane import layout as dp
from redsim.dataplane.roles import become_master, become_replica
from redsim.redis.replica import Replica
from redsim.redis.replication import Master

__all__ = ["Role", "replicaof"]


class Role:
    """What a server may be, one and the other.

    state    replica     its half as a replica
             causes      numbers of the causes in its World: executing the stream, writing to replicas
             scale_ppm   per master: what a command takes here, in millionths of what it takes there
             has_volatile_keys    whether there is anything to expire
             on_change   called before a change: (this, the master it is to follow, None: it becomes one)
             taken       (ns, whom it follows from then on, "": it is a master) so far
    """

    def __init__(self, replica: Replica, causes: tuple[int, int], scale_ppm: dict[str, int], has_volatile_keys: bool) -> None:
        self.replica, self.causes, self.scale_ppm, self.has_volatile_keys = replica, causes, scale_ppm, has_volatile_keys
        self.on_change: list[Callable[[Role, Master | None], None]] = []
        self.taken = [(0, replica.followed.name if replica.followed is not None else "")]

    def take(self, master: Master | None) -> None:
        """Its World has the role from here on, and the control plane goes by it."""
        replica, server = self.replica, self.replica.server
        if master is None and server.world.repl[dp.M_IS_REPLICA]:
            become_master(server.world, self.causes[1])
            server.world = dp.placed(server.world._replace(stream=server.world.stream.copy()))
        elif master is not None:
            if not server.world.repl[dp.M_IS_REPLICA]:
                become_replica(server.world, self.causes[0], dp.READS_ONLY)
            server.world.repl[dp.M_SCALE_PPM] = self.scale_ppm[master.name]
        server.has_volatile_keys = self.has_volatile_keys and master is None
        replica.follow(master)
        self.taken.append((replica.now_ns(), master.name if master is not None else ""))


def replicaof(role: Role, master: Master | None, *, is_kept: bool = False) -> str:
    """The command, executed now; the answer. `is_kept`: CONFIG REWRITE follows, so that a new process has the role too."""
    replica = role.replica
    own = replica.own
    if is_kept:
        replica.conf_master = master
    if replica.state == "loading":
        return "LOADING Redis is loading the dataset in memory"
    if master is replica.followed:
        return "OK" if master is None else "OK Already connected to specified master"
    for watcher in role.on_change:
        watcher(role, master)
    if master is None:
        before = replica.replid
        replica.leave("it is a master now")
        own.shift_history(before)
        own.close_all("its role has changed")
        own.lines.append((own.now_ns(), "MASTER MODE enabled"))
    else:
        if replica.followed is None:
            replica.replid = own.replid
            said = "Before turning into a replica, using my own master parameters to synthesize a cached master"
            own.lines.append((own.now_ns(), said))
            own.create_backlog(with_history=False)
        replica.leave("it follows another master now")
        own.lines.append((own.now_ns(), f"REPLICAOF {master.name} enabled"))
    role.take(master)
    return "OK"
