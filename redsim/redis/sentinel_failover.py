"""How Sentinels agree that a master is down, elect one of them, and how that one fails the master over.

Mirrors sentinel.c of 7.0: sentinelCheckObjectivelyDown, sentinelAskMasterStateToOtherSentinels,
sentinelReceiveIsMasterDownReply, sentinelVoteLeader, sentinelGetLeader, sentinelStartFailoverIfNeeded, sentinelSelectSlave,
sentinelFailoverStateMachine and its states, sentinelAbortFailover.

    tick   ODOWN? -> start? (then ask everybody at once) -> one step of the failover -> ask whoever was not heard for a second
    vote   first come, first served, once per epoch and master, on disk before the reply; who votes for another does not start a
           failover itself for twice failover-timeout
    steps  wait_start -> select_slave -> send_slaveof_noone -> wait_promotion -> (INFO) reconf_slaves -> update_config

Differs: the line about the next failover tells seconds of the run, Redis a date.
Not modelled: SENTINEL SIMULATE-FAILURE.
"""

from redsim.redis import sentinel_state as st
from redsim.redis.sentinel_info import send_slaveof
from redsim.redis.sentinel_state import Instance, State
from redsim.redis.sentinel_wire import ANY, IsMasterDown, MasterDownReply

__all__ = ["act", "answer_is_master_down", "select_slave", "start_failover", "vote_leader"]


def act(sentinel: State, master: Instance) -> None:
    """What the timer does for a master once it knows whether that is down. The order is the algorithm."""
    if not (master.s_down or master.o_down or master.failover_in_progress):
        return _forget_replies(sentinel, master)
    _check_objectively_down(sentinel, master)
    if _start_failover_if_needed(sentinel, master):
        _ask(sentinel, master, forced=True)
    if master.failover_in_progress:
        _step(sentinel, master)
    return _ask(sentinel, master, forced=False)


# ---- agreement


def _check_objectively_down(sentinel: State, master: Instance) -> None:
    agree = 1 + sum(other.master_down for other in master.sentinels.all) if master.s_down else 0
    is_down = master.s_down and agree >= master.quorum
    if is_down and not master.o_down:
        sentinel.event(st.WARNING, "+odown", f"{master.text()} #quorum {agree}/{master.quorum}")
        master.o_down, master.o_down_since_time = True, sentinel.now_ms()
    elif master.o_down and not is_down:
        sentinel.event(st.WARNING, "-odown", master.text())
        master.o_down = False


def _forget_replies(sentinel: State, master: Instance) -> None:
    """Replies are good for five periods."""
    for other in master.sentinels.all:
        if (other.master_down or other.leader) and sentinel.now_ms() - other.last_master_down_reply_time > 5 * st.ASK_PERIOD:
            other.master_down, other.leader = False, ""


def _ask(sentinel: State, master: Instance, *, forced: bool) -> None:
    """sentinelAskMasterStateToOtherSentinels."""
    _forget_replies(sentinel, master)
    if not master.s_down:
        return
    runid = sentinel.myid if master.failover_state > st.NONE else ANY
    for other in master.sentinels.all:
        link, now = other.link, sentinel.now_ms()
        is_recent = now - other.last_master_down_reply_time < st.ASK_PERIOD
        if link.disconnected or link.cc is None or (is_recent and not forced):
            continue

        def take(reply: MasterDownReply, other: Instance = other) -> None:
            _receive_reply(sentinel, other, reply)

        sentinel.send(link.cc, IsMasterDown(master.address, sentinel.current_epoch, runid), take)
        link.pending_commands += 1


def _receive_reply(sentinel: State, other: Instance, reply: MasterDownReply) -> None:
    """sentinelReceiveIsMasterDownReply."""
    other.link.pending_commands -= 1
    if other.is_released:
        return
    other.last_master_down_reply_time = sentinel.now_ms()
    other.master_down = reply.is_down
    if reply.leader != ANY:
        if other.leader_epoch != reply.leader_epoch:
            sentinel.say(f"{other.name} voted for {reply.leader} {reply.leader_epoch}")
        other.leader, other.leader_epoch = reply.leader, reply.leader_epoch


def answer_is_master_down(sentinel: State, ask: IsMasterDown) -> MasterDownReply:
    """The other end of it: by address, not by name; in TILT nothing is down, votes are given all the same."""
    master = sentinel.master_at(ask.address)
    is_down = master is not None and master.s_down and not sentinel.tilt
    if master is None or ask.runid == ANY:
        return MasterDownReply(is_down, ANY, 0)
    leader, epoch = vote_leader(sentinel, master, ask.epoch, ask.runid)
    return MasterDownReply(is_down, leader or ANY, epoch)


def vote_leader(sentinel: State, master: Instance, epoch: int, runid: str) -> tuple[str, int]:
    """sentinelVoteLeader: (whom it voted for, "" if that is not known any more; in which epoch)."""
    sentinel.heed_epoch(epoch)
    if master.leader_epoch < epoch and sentinel.current_epoch <= epoch:
        master.leader, master.leader_epoch = runid, sentinel.current_epoch
        sentinel.flush_config()
        sentinel.event(st.WARNING, "+vote-for-leader", f"{runid} {master.leader_epoch}")
        if runid != sentinel.myid:
            master.failover_start_time = sentinel.now_ms() + sentinel.desync_ms()
    return master.leader, master.leader_epoch


def _leader(sentinel: State, master: Instance, epoch: int) -> str:
    """sentinelGetLeader: "" while nobody has a majority of all known Sentinels and quorum votes."""
    votes: dict[str, int] = {}
    for other in master.sentinels.all:
        if other.leader and other.leader_epoch == sentinel.current_epoch:
            votes[other.leader] = votes.get(other.leader, 0) + 1
    winner = max(votes, key=votes.__getitem__, default="")
    mine, mine_epoch = vote_leader(sentinel, master, epoch, winner or sentinel.myid)
    if mine and mine_epoch == epoch:
        votes[mine] = votes.get(mine, 0) + 1
        if votes[mine] > votes.get(winner, 0):
            winner = mine
    needed = max((len(master.sentinels) + 1) // 2 + 1, master.quorum)
    return winner if winner and votes[winner] >= needed else ""


# ---- the failover


def _start_failover_if_needed(sentinel: State, master: Instance) -> bool:
    if not master.o_down or master.failover_in_progress:
        return False
    begun = master.failover_start_time
    if sentinel.now_ms() - begun < 2 * master.failover_timeout:
        if master.failover_delay_logged != begun:
            master.failover_delay_logged = begun
            at_s = (begun + 2 * master.failover_timeout - st.BEGIN) // 1000
            sentinel.say(f"Next failover delay: I will not start a failover before {at_s} s")
        return False
    start_failover(sentinel, master)
    return True


def start_failover(sentinel: State, master: Instance) -> None:
    """sentinelStartFailover; the random start delays nothing, it only moves what is counted from it."""
    _to(sentinel, master, st.WAIT_START)
    master.failover_in_progress = True
    sentinel.current_epoch += 1
    master.failover_epoch = sentinel.current_epoch
    sentinel.event(st.WARNING, "+new-epoch", str(sentinel.current_epoch))
    sentinel.event(st.WARNING, "+try-failover", master.text())
    master.failover_start_time = sentinel.now_ms() + sentinel.desync_ms()


def _to(sentinel: State, master: Instance, state: int) -> None:
    master.failover_state, master.failover_state_change_time = state, sentinel.now_ms()


def _step(sentinel: State, master: Instance) -> None:
    """sentinelFailoverStateMachine: one state at a tick."""
    if master.failover_state == st.WAIT_START:
        _wait_start(sentinel, master)
    elif master.failover_state == st.SELECT_SLAVE:
        _select(sentinel, master)
    elif master.failover_state == st.SEND_SLAVEOF_NOONE:
        _send_slaveof_noone(sentinel, master)
    elif master.failover_state == st.WAIT_PROMOTION:
        _abort_if_late(sentinel, master)
    elif master.failover_state == st.RECONF_SLAVES:
        _reconf_slaves(sentinel, master)


def _wait_start(sentinel: State, master: Instance) -> None:
    is_leader = _leader(sentinel, master, master.failover_epoch) == sentinel.myid
    if not is_leader and not master.force_failover:
        if sentinel.now_ms() - master.failover_start_time > min(st.ELECTION_TIMEOUT, master.failover_timeout):
            sentinel.event(st.WARNING, "-failover-abort-not-elected", master.text())
            _abort(sentinel, master)
        return
    sentinel.event(st.WARNING, "+elected-leader", master.text())
    _to(sentinel, master, st.SELECT_SLAVE)
    sentinel.event(st.WARNING, "+failover-state-select-slave", master.text())


def select_slave(sentinel: State, master: Instance) -> Instance | None:
    """sentinelSelectSlave: by priority, offset, run id, among those that are up and not too long cut off."""
    now = sentinel.now_ms()
    cut_off_max = (now - master.s_down_since_time if master.s_down else 0) + 10 * master.down_after
    info_age_max = 5 * st.PING_PERIOD if master.s_down else 3 * st.INFO_PERIOD
    good = [
        slave for slave in master.slaves.all
        if not slave.s_down and not slave.link.disconnected and now - slave.link.last_avail_time <= 5 * st.PING_PERIOD
        and slave.slave_priority and now - slave.info_refresh <= info_age_max
        and slave.master_link_down_time <= cut_off_max
    ]  # fmt: skip
    return min(good, key=lambda one: (one.slave_priority, -one.slave_repl_offset, one.runid), default=None)


def _select(sentinel: State, master: Instance) -> None:
    slave = select_slave(sentinel, master)
    if slave is None:
        sentinel.event(st.WARNING, "-failover-abort-no-good-slave", master.text())
        return _abort(sentinel, master)
    sentinel.event(st.WARNING, "+selected-slave", slave.text())
    slave.promoted, master.promoted_slave = True, slave
    _to(sentinel, master, st.SEND_SLAVEOF_NOONE)
    return sentinel.event(st.NOTICE, "+failover-state-send-slaveof-noone", slave.text())


def _send_slaveof_noone(sentinel: State, master: Instance) -> None:
    slave = master.promoted_slave
    assert slave is not None, "one was selected"
    if slave.link.disconnected:
        return _abort_if_late(sentinel, master)
    if send_slaveof(sentinel, slave, None):
        sentinel.event(st.NOTICE, "+failover-state-wait-promotion", slave.text())
        _to(sentinel, master, st.WAIT_PROMOTION)
    return None


def _abort_if_late(sentinel: State, master: Instance) -> None:
    if sentinel.now_ms() - master.failover_state_change_time > master.failover_timeout:
        sentinel.event(st.WARNING, "-failover-abort-slave-timeout", master.text())
        _abort(sentinel, master)


def _abort(sentinel: State, master: Instance) -> None:
    """sentinelAbortFailover: not any more once the replica is a master."""
    assert master.failover_in_progress, "there is a failover to abort"
    assert master.failover_state <= st.WAIT_PROMOTION, "a replica was promoted"
    master.failover_in_progress = master.force_failover = False
    _to(sentinel, master, st.NONE)
    if master.promoted_slave is not None:
        master.promoted_slave.promoted, master.promoted_slave = False, None


def _reconf_slaves(sentinel: State, master: Instance) -> None:
    """sentinelFailoverReconfNextSlave."""
    assert master.promoted_slave is not None, "a replica was promoted"
    under_way = sum(slave.reconf_sent or slave.reconf_inprog for slave in master.slaves.all)
    for slave in master.slaves.all:
        if under_way >= master.parallel_syncs:
            break
        if slave.promoted or slave.reconf_done:
            continue
        if slave.reconf_sent and sentinel.now_ms() - slave.slave_reconf_sent_time > st.SLAVE_RECONF_TIMEOUT:
            sentinel.event(st.NOTICE, "-slave-reconf-sent-timeout", slave.text())
            slave.reconf_sent, slave.reconf_done = False, True  # and it is sent once more, as Redis does
        if slave.reconf_sent or slave.reconf_inprog or slave.link.disconnected:
            continue
        if send_slaveof(sentinel, slave, master.promoted_slave.address):
            slave.reconf_sent, slave.slave_reconf_sent_time = True, sentinel.now_ms()
            sentinel.event(st.NOTICE, "+slave-reconf-sent", slave.text())
            under_way += 1
    _detect_end(sentinel, master)


def _detect_end(sentinel: State, master: Instance) -> None:
    """sentinelFailoverDetectEnd."""
    promoted = master.promoted_slave
    if promoted is None or promoted.s_down:
        return
    is_late = sentinel.now_ms() - master.failover_state_change_time > master.failover_timeout
    missing = sum(not (slave.promoted or slave.reconf_done or slave.s_down) for slave in master.slaves.all)
    if is_late:
        sentinel.event(st.WARNING, "+failover-end-for-timeout", master.text())
    if is_late or not missing:
        sentinel.event(st.WARNING, "+failover-end", master.text())
        _to(sentinel, master, st.UPDATE_CONFIG)
    if not is_late:
        return
    for slave in master.slaves.all:
        is_told = slave.promoted or slave.reconf_done or slave.reconf_sent
        if not is_told and not slave.link.disconnected and send_slaveof(sentinel, slave, promoted.address):
            sentinel.event(st.NOTICE, "+slave-reconf-sent-be", slave.text())
            slave.reconf_sent = True
