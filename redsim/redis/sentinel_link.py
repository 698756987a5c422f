"""How a Sentinel keeps in touch: it connects, pings, asks for INFO, says hello, and finds an instance down by itself.

Mirrors sentinel.c of 7.0: sentinelReconnectInstance, sentinelSendPeriodicCommands, sentinelSendPing, sentinelPingReplyCallback,
sentinelSendHello, sentinelPublishReplyCallback, sentinelForceHelloUpdateForMaster, sentinelCheckSubjectivelyDown.

    link lost -> at the next tick, and 1 s or more after the attempt before: both connections, PING at once
    PING    1 s (down-after if less) after the last reply
    INFO    10 s; 1 s of a replica whose master is down or that is cut off from it
    HELLO   2 s, to everybody
    SDOWN   the oldest unanswered PING is older than down-after

Of a Sentinel that has been up for long these rhythms are out of step: each begins somewhere within its period.

An attempt counts as a connection until its end is known, so that a PING is pending from then on: a killed master is down
down-after plus a tick after its death, a stopped one up to a second later. After a switch the clock of the new master starts
anew, the rhythm of attempts does not: with a down-after of a second or less it can be found down before the first PING.
Not modelled: host names that resolve to another address.
"""

from typing import Any

from redsim.redis import sentinel_state as st
from redsim.redis.sentinel_state import Instance, State
from redsim.redis.sentinel_wire import INFO, PING, SCRIPT_KILL, Hello, InfoReply, Publish

__all__ = ["check_subjectively_down", "force_hello", "reconnect", "send_periodic_commands", "send_ping"]


def reconnect(sentinel: State, ri: Instance, now: int) -> None:
    """sentinelReconnectInstance."""
    link = ri.link
    if now - link.last_reconn_time < st.PING_PERIOD:
        return
    link.last_reconn_time = now
    if link.cc is None:
        link.pending_commands, link.cc_conn_time = 0, now
        link.cc = sentinel.wire.connect(sentinel, ri.address, "cmd", link.lost, None, sentinel.ahead_ns)
        send_ping(sentinel, ri, now)
    if link.pc is None and not ri.is_sentinel:

        def hear(message: Hello | None) -> None:
            _receive_hello(sentinel, ri, message)

        link.pc_conn_time = now
        link.pc = sentinel.wire.connect(sentinel, ri.address, "pubsub", link.lost, hear, sentinel.ahead_ns)
    if link.cc is not None and (ri.is_sentinel or link.pc is not None):
        link.disconnected = False


def _receive_hello(sentinel: State, ri: Instance, message: Hello | None) -> None:
    """sentinelReceiveHelloMessages: its own messages show that the connection is there."""
    ri.link.pc_last_activity = sentinel.now_ms()
    if message is not None and message.runid != sentinel.myid:
        sentinel.process_hello(message)


def send_ping(sentinel: State, ri: Instance, now: int) -> None:
    """sentinelSendPing."""
    link = ri.link

    def pong(reply: str) -> None:
        _ping_reply(sentinel, ri, reply)

    sentinel.send(link.cc, PING, pong)
    link.pending_commands += 1
    link.last_ping_time = now
    if not link.act_ping_time:
        link.act_ping_time = now


def _ping_reply(sentinel: State, ri: Instance, reply: str) -> None:
    """sentinelPingReplyCallback."""
    link, now = ri.link, sentinel.now_ms()
    link.pending_commands -= 1
    if ri.is_released:
        return
    if reply in ("PONG", "LOADING", "MASTERDOWN"):
        link.last_avail_time, link.act_ping_time = now, 0
        if reply == "PONG":
            ri.master_reboot = False
    elif reply == "BUSY" and ri.s_down and not ri.script_kill_sent:
        sentinel.send(link.cc, SCRIPT_KILL, lambda _reply: _discard(ri))
        link.pending_commands += 1
        ri.script_kill_sent = True
    link.last_pong_time, link.last_ping_time, link.ping_ago = now - link.ping_ago, link.last_ping_time - link.ping_ago, 0


def _discard(ri: Instance) -> None:
    ri.link.pending_commands -= 1


def send_periodic_commands(sentinel: State, ri: Instance, now: int) -> None:
    """sentinelSendPeriodicCommands, of an instance that is connected."""
    link = ri.link
    if link.pending_commands >= st.MAX_PENDING_COMMANDS * link.refcount:
        return
    if not ri.is_sentinel:
        master, period = ri.master, st.INFO_PERIOD
        if master is not None and (master.o_down or master.failover_in_progress or ri.master_link_down_time):
            period = st.INFO_PERIOD_FAST
        if not ri.info_refresh or now - ri.info_refresh > period:
            _send_info(sentinel, ri)
    period = ri.down_after if ri.down_after < st.PING_PERIOD else st.PING_PERIOD
    if now - link.last_pong_time > period and now - link.last_ping_time > period // 2:
        send_ping(sentinel, ri, now)
    if now - ri.last_pub_time > st.PUBLISH_PERIOD:
        _send_hello(sentinel, ri)


def _send_info(sentinel: State, ri: Instance) -> None:

    def take(reply: Any) -> None:
        ri.link.pending_commands -= 1
        if isinstance(reply, InfoReply) and not ri.is_released:
            sentinel.refresh_info(ri, reply)

    sentinel.send(ri.link.cc, INFO, take)
    ri.link.pending_commands += 1


def _send_hello(sentinel: State, ri: Instance) -> None:
    """sentinelSendHello: itself, its epoch, and where it has the master."""
    master = ri.master or ri
    where, epoch = master.current_address(), master.config_epoch
    hello = Hello(sentinel.announced, sentinel.myid, sentinel.current_epoch, master.name, where, epoch)

    def published(reply: Any) -> None:
        ri.link.pending_commands -= 1
        if isinstance(reply, int):  # otherwise it is tried again at the next tick
            ri.last_pub_time = sentinel.now_ms()

    sentinel.send(ri.link.cc, Publish(hello), published)
    ri.link.pending_commands += 1


def force_hello(master: Instance) -> None:
    """sentinelForceHelloUpdateForMaster: at the next tick everybody hears."""
    for ri in (master, *master.sentinels.all, *master.slaves.all):
        ri.last_pub_time -= st.PUBLISH_PERIOD + 1


def check_subjectively_down(sentinel: State, ri: Instance, now: int) -> None:
    """sentinelCheckSubjectivelyDown."""
    link, elapsed = ri.link, 0
    pending = link.act_ping_time
    if pending:
        elapsed = now - pending
        if elapsed > ri.down_after // 2:
            _close_if_mute(ri, now)
    elif link.disconnected:
        elapsed = now - link.last_avail_time
    pc = link.pc
    is_settled = now - link.pc_conn_time > st.MIN_LINK_RECONNECT_PERIOD
    if pc is not None and is_settled and now - link.pc_last_activity > 3 * st.PUBLISH_PERIOD:
        link.close_pubsub()
    is_down = elapsed > ri.down_after
    if not is_down and ri.is_master:
        is_down = _is_wrong_master(ri, now)
    if is_down and not ri.s_down:
        sentinel.event(st.WARNING, "+sdown", ri.text())
        ri.s_down_since_time, ri.s_down = now, True
    elif ri.s_down and not is_down:
        sentinel.event(st.WARNING, "-sdown", ri.text())
        ri.s_down = ri.script_kill_sent = False


def _close_if_mute(ri: Instance, now: int) -> None:
    """A PING has waited for half of down-after, no error came either: perhaps the connection is to blame."""
    link = ri.link
    is_settled = now - link.cc_conn_time > st.MIN_LINK_RECONNECT_PERIOD
    if link.cc is not None and is_settled and now - link.last_pong_time > ri.down_after // 2:
        link.close_commands()


def _is_wrong_master(ri: Instance, now: int) -> bool:
    """It says for long that it is a replica; or it has been booting for too long."""
    if ri.role_reported == "slave" and now - ri.role_reported_time > ri.down_after + 2 * st.INFO_PERIOD:
        return True
    return ri.master_reboot and now - ri.master_reboot_since_time > ri.master_reboot_down_after
