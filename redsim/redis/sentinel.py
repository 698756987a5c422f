"""A Sentinel: one process with a timer, that watches masters, their replicas and the other Sentinels.

Mirrors sentinel.c of 7.0: sentinelTimer, sentinelHandleDictOfRedisInstances, sentinelHandleRedisInstance,
sentinelCheckTiltCondition, sentinelCommand, sentinelIsRunning; server.c: what stands in sockets is read before a timer runs.

    tick     TILT? -> every master: itself, its replicas, the other Sentinels -> a failover that is over: +switch-master
             then hz = 10 + rand() % 10: the next one is 52 to 100 ms later, and no two Sentinels keep in step
    TILT     the last tick is more than 2 s ago: for 30 s it watches and does nothing, and says that nobody is down
    flush    takes the loop; what comes meanwhile waits

It knows servers and Sentinels only by what the wire brings (sentinel_wire.py). Parts: sentinel_link.py, sentinel_info.py,
sentinel_failover.py; what it knows: sentinel_state.py.
Differs: commands and replies take no CPU; poll() does not round its timer up to the next millisecond.
Not modelled: SENTINEL SET, MONITOR, REMOVE, RESET, CKQUORUM, scripts, a clock that is set back.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from redsim.redis import sentinel_state as st
from redsim.redis.sentinel_failover import act, answer_is_master_down, select_slave, start_failover
from redsim.redis.sentinel_info import process_hello, refresh_info, share_link, switch_master
from redsim.redis.sentinel_link import check_subjectively_down, reconnect, send_periodic_commands
from redsim.redis.sentinel_state import Instance, KnownMaster, SavedConfig, State
from redsim.redis.sentinel_wire import (
    Address,
    Command,
    Connection,
    Failover,
    GetMasterAddr,
    Hello,
    InfoReply,
    IsMasterDown,
    Ping,
    Publish,
    Wire,
)
from redsim.rng import generator
from redsim.scenario.sentinel_conf import SentinelConf
from redsim.units import MS

__all__ = ["Sentinel"]

FIRST_TICK_NS = MS  # server.c: serverCron is due 1 ms after the start
_DRAWS = 256


class Sentinel(State):
    """One Sentinel process.

    state    is_alive, is_paused
             epochs, masters, log, saved      see State
             ticks                            how often its timer ran
    """

    def __init__(
        self, env: simpy.Environment, name: str, address: Address, conf: SentinelConf, wire: Wire, seed: int,
        log: list[tuple[int, str, str]], flush_ns: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """`conf`: its sentinel.conf, ports filled in (with_ports); `log`: (ns, name, text), shared by all; `flush_ns`: what a
        rewrite of the configuration and its fsync take."""
        super().__init__(env, name, address, wire, log, flush_ns, conf.loglevel)
        self.conf = conf
        self.announced = Address(conf.announce_ip or address.host, conf.announce_port or address.port)
        self.is_paused = False
        self.ticks = 0
        self._hz_rng = generator(seed, name, "sentinel", "hz")
        self._desync_rng = generator(seed, name, "sentinel", "desync")
        self._phase_rng = generator(seed, name, "sentinel", "phase")
        self._hz: list[int] = []
        self._inbox: deque[tuple[Connection | None, Callable[[Any], None], Any]] = deque()
        self._busy_until_ns, self._life, self._tick_is_due = 0, 0, False
        words = generator(seed, name, "sentinel", "myid").integers(0, 16, st.RUN_ID_CHARS)
        myid = conf.myid or "".join(f"{word:x}" for word in words.tolist())
        self.saved = SavedConfig(myid, conf.current_epoch, {
            one.name: KnownMaster(
                Address(one.host, one.port), one.config_epoch, one.leader_epoch,
                tuple(Address(host, port) for host, port in one.replicas),
                tuple((Address(host, port), runid) for host, port, runid in one.sentinels),
            ) for one in conf.masters
        })  # fmt: skip

    # ---- its life

    def start(self, delay_ns: int = 0, *, is_long_up: bool = False) -> None:
        """The process is there after so long, with what its configuration file says; `is_long_up`: as if it had been for long,
        so that its rhythms are out of step with each other and with other Sentinels'."""
        assert not self.is_alive, f"{self.name} runs already"
        self._life += 1
        self._after(delay_ns, lambda: self._run(is_long_up))

    def kill(self) -> None:
        """SIGKILL: its connections are closed; what was flushed stays."""
        assert self.is_alive, f"{self.name} does not run"
        for master in self.masters.all:
            master.slaves.clear()
            master.sentinels.clear()
        self.masters.clear()
        self.subscribers.clear()
        self._life += 1
        self.is_alive = self.is_paused = self._tick_is_due = False
        self._inbox.clear()
        self.outbox.clear()
        self.published.clear()
        self._busy_until_ns = 0

    def pause(self) -> None:
        """SIGSTOP: sockets fill, the timer waits."""
        assert self.is_alive, f"{self.name} does not run"
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT: what came is read, then the timer runs."""
        self.is_paused = False
        if self.is_alive:
            self._go_on()

    def _run(self, is_long_up: bool) -> None:
        """initSentinel, sentinelHandleConfiguration, sentinelIsRunning."""
        self.is_alive = True
        saved = self.saved
        self.myid, self.current_epoch, self.tilt = saved.myid, saved.current_epoch, False
        for rules in self.conf.masters:
            known = saved.masters[rules.name]
            master = self.create("master", rules.name, known.address, None)
            assert master is not None, "names differ"
            master.quorum, master.parallel_syncs = rules.quorum, rules.parallel_syncs
            master.down_after, master.failover_timeout = rules.down_after_ns // MS, rules.failover_timeout_ns // MS
            master.master_reboot_down_after = rules.master_reboot_down_after_ns // MS
            master.config_epoch, master.leader_epoch = known.config_epoch, known.leader_epoch
            self.current_epoch = max(self.current_epoch, known.config_epoch)
            for address in known.replicas:
                self.create("slave", "", address, master)
            for address, runid in known.sentinels:
                other = self.create("sentinel", runid, address, master)
                if other is not None:
                    other.runid = runid
                    share_link(self, other)
            if is_long_up:
                self._put_out_of_step(master)
        for master in self.masters.all:
            self.event(st.WARNING, "+monitor", f"{master.text()} quorum {master.quorum}")
        self.previous_time = self.now_ms()
        self._end_turn()
        self._after(FIRST_TICK_NS, self._tick)

    def _put_out_of_step(self, master: Instance) -> None:
        """Where in its period each rhythm is: anywhere, as ticks of 52 to 100 ms have made it drift."""
        for ri in (master, *master.slaves.all, *master.sentinels.all):
            info, ping, hello = self._phase_rng.integers(0, (st.INFO_PERIOD, st.PING_PERIOD, st.PUBLISH_PERIOD)).tolist()
            ri.info_ago, ri.link.ping_ago = info, ping
            ri.last_pub_time -= hello

    def _after(self, delay_ns: int, step: Callable[[], None]) -> None:
        """`step` runs then, unless the process is gone."""
        life = self._life

        def fire(_event: simpy.Event) -> None:
            if life == self._life:
                step()

        callbacks = self.env.timeout(delay_ns).callbacks
        assert callbacks is not None, "it is yet to come"
        callbacks.append(fire)

    # ---- its loop

    def _is_held(self) -> bool:
        return self.is_paused or int(self.env.now) < self._busy_until_ns

    def deliver(self, connection: Connection, callback: Callable[[Any], None], message: Any) -> None:
        """Receiver: it is read at once, or when the loop gets there."""
        if self._is_held():
            self._inbox.append((connection, callback, message))
        elif not connection.is_closed:
            callback(message)
            self._end_turn()

    def request(self, command: Command, answer: Callable[[Any, int], None]) -> None:
        """Receiver: sentinelCommand, PING, PUBLISH; the answer leaves when its work is done."""

        def run(asked: Command) -> None:
            reply = self._execute(asked)
            answer(reply, self.ahead_ns)

        if self._is_held():
            self._inbox.append((None, run, command))
        elif self.is_alive:
            run(command)
            self._end_turn()

    def _end_turn(self) -> None:
        """What it sent leaves; a flush has taken the loop, which goes on when that is over."""
        if self.outbox:
            for connection, command, on_reply in self.outbox:
                if not connection.is_closed:
                    connection.send(command, on_reply, self.ahead_ns)
            self.outbox.clear()
        if self.published:
            for kind, text in self.published:
                for hear in self.subscribers:
                    hear(int(self.env.now) + self.ahead_ns, kind, text)
            self.published.clear()
        if self.ahead_ns:
            self._busy_until_ns = int(self.env.now) + self.ahead_ns
            self._after(self.ahead_ns, self._go_on)
            self.ahead_ns = 0

    def _go_on(self) -> None:
        """aeProcessEvents: what stands in the sockets, then the timer."""
        while self._inbox and not self._is_held():
            connection, callback, message = self._inbox.popleft()
            if connection is None or not connection.is_closed:
                callback(message)
                self._end_turn()
        if self._tick_is_due and not self._is_held():
            self._tick()

    def _tick(self) -> None:
        """sentinelTimer, and when it runs next."""
        self._tick_is_due = self._is_held()
        if self._tick_is_due:
            return
        self.ticks += 1
        self._check_tilt()
        over: Instance | None = None
        for master in self.masters.all:
            self._handle(master)
            for slave in master.slaves.all:
                self._handle(slave)
            for other in master.sentinels.all:
                self._handle(other)
            if master.failover_state == st.UPDATE_CONFIG:
                over = master
        if over is not None:
            switch_master(self, over, over.promoted_slave.address if over.promoted_slave else over.address)
        if not self._hz:
            self._hz = self._hz_rng.integers(0, st.DEFAULT_HZ, _DRAWS).tolist()
        period_ns = 1000 // (st.DEFAULT_HZ + self._hz.pop()) * MS
        self._after(self.ahead_ns + period_ns, self._tick)
        self._end_turn()

    def _check_tilt(self) -> None:
        """sentinelCheckTiltCondition."""
        now = self.now_ms()
        if now - self.previous_time > st.TILT_TRIGGER:
            self.tilt, self.tilt_start_time = True, now
            self.event(st.WARNING, "+tilt", "#tilt mode entered")
        self.previous_time = now

    def _handle(self, ri: Instance) -> None:
        """sentinelHandleRedisInstance: it watches, then it acts."""
        now = self.now_ms()
        if ri.link.disconnected:
            reconnect(self, ri, now)
        if not ri.link.disconnected:
            send_periodic_commands(self, ri, now)
        if self.tilt:
            if now - self.tilt_start_time < st.TILT_PERIOD:
                return
            self.tilt = False
            self.event(st.WARNING, "-tilt", "#tilt mode exited")
        check_subjectively_down(self, ri, now)
        if ri.is_master:
            act(self, ri)

    # ---- what it is asked

    def _execute(self, command: Command) -> Any:
        """The reply of one command."""
        if isinstance(command, Ping):
            return "PONG"
        if isinstance(command, Publish):
            self.process_hello(command.hello)
            return 1
        if isinstance(command, IsMasterDown):
            return answer_is_master_down(self, command)
        if isinstance(command, GetMasterAddr):
            return self.get_master_addr_by_name(command.master)
        if isinstance(command, Failover):
            return self._failover(command.master)
        return "ERR"

    def get_master_addr_by_name(self, name: str) -> Address | None:
        """What SENTINEL GET-MASTER-ADDR-BY-NAME answers now; None for a master that it does not watch."""
        master = self.masters.get(name)
        return master.current_address() if master is not None else None

    def _failover(self, name: str) -> str:
        """SENTINEL FAILOVER: nobody is asked, a good replica is needed."""
        master = self.masters.get(name)
        if master is None:
            return "ERR"
        if master.failover_in_progress:
            return "INPROG"
        if select_slave(self, master) is None:
            return "NOGOODSLAVE"
        self.say(f"Executing user requested FAILOVER of '{name}'")
        start_failover(self, master)
        master.force_failover = True
        return "OK"

    def subscribe(self, hear: Callable[[int, str, str], None]) -> None:
        """`hear(ns, event, text)` for every event that is published, e.g. +switch-master, as it leaves; a kill ends it."""
        self.subscribers.append(hear)

    # ---- State

    def desync_ms(self) -> int:
        """rand() % SENTINEL_MAX_DESYNC."""
        return int(self._desync_rng.integers(0, st.MAX_DESYNC))

    def refresh_info(self, ri: Instance, info: InfoReply) -> None:
        """INFO of an instance has come."""
        refresh_info(self, ri, info)

    def process_hello(self, hello: Hello) -> None:
        """Another Sentinel says hello."""
        process_hello(self, hello)
