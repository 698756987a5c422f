"""What a Sentinel concludes from INFO, and from what other Sentinels say on the hello channel.

Mirrors sentinel.c of 7.0: sentinelRefreshInstanceInfo, sentinelProcessHelloMessage, sentinelResetMaster,
sentinelResetMasterAndChangeAddress, sentinelTryConnectionSharing, sentinelSendSlaveOf.

    INFO of a master     replicas that are new: +slave
    INFO of a replica    it says master: +promoted-slave if so ordered, else +convert-to-slave after 8 s of a sane master
                         it follows another one: +fix-slave-config after failover-timeout
                         it was reconfigured: +slave-reconf-inprog, +slave-reconf-done
    hello                a Sentinel that is new: +sentinel; a higher epoch: +new-epoch; a higher configuration epoch with another
                         address: +config-update-from, +switch-master, the old master is a replica from now on

Not modelled: replica-announced, scripts that are told.
"""

from redsim.redis import sentinel_state as st
from redsim.redis.sentinel_link import force_hello
from redsim.redis.sentinel_state import Instance, State
from redsim.redis.sentinel_wire import Address, Hello, InfoReply, SlaveOf

__all__ = ["process_hello", "refresh_info", "send_slaveof", "share_link", "switch_master"]


def refresh_info(sentinel: State, ri: Instance, info: InfoReply) -> None:
    """sentinelRefreshInstanceInfo: what is read first, then what follows from it."""
    _note_run_id(sentinel, ri, info.run_id)
    if ri.is_master:
        for address in info.replicas:
            slave = sentinel.create("slave", "", address, ri)
            if slave is not None:
                sentinel.event(st.NOTICE, "+slave", slave.text())
                sentinel.flush_config()
    now = sentinel.now_ms()
    ri.master_link_down_time = 1000 * info.master_link_down_s if info.role == "slave" else 0
    if info.role == "slave":
        if info.master != ri.slave_master:
            ri.slave_master, ri.slave_conf_change_time = info.master, now
        ri.slave_master_link_up, ri.slave_priority = info.master_link_up, info.priority
        ri.slave_repl_offset = info.offset
    ri.info_refresh, ri.info_ago = now - ri.info_ago, 0
    if info.role != ri.role_reported:
        ri.role_reported, ri.role_reported_time = info.role, now
        if info.role == "slave":
            ri.slave_conf_change_time = now
        sign = "+" if ri.type == info.role else "-"
        sentinel.event(st.VERBOSE, f"{sign}role-change", f"{ri.text()} new reported role is {info.role}")
    if not sentinel.tilt and ri.is_slave:
        if info.role == "master":
            _slave_says_master(sentinel, ri)
        else:
            _slave_says_slave(sentinel, ri)


def _note_run_id(sentinel: State, ri: Instance, run_id: str) -> None:
    if ri.runid and ri.runid != run_id:
        sentinel.event(st.NOTICE, "+reboot", ri.text())
        if ri.is_master and ri.master_reboot_down_after:
            ri.master_reboot, ri.master_reboot_since_time = True, sentinel.now_ms()
    ri.runid = run_id


def _slave_says_master(sentinel: State, ri: Instance) -> None:
    master = _master_of(ri)
    if ri.promoted and master.failover_in_progress and master.failover_state == st.WAIT_PROMOTION:
        master.config_epoch = master.failover_epoch
        master.failover_state, master.failover_state_change_time = st.RECONF_SLAVES, sentinel.now_ms()
        sentinel.flush_config()
        sentinel.event(st.WARNING, "+promoted-slave", ri.text())
        sentinel.event(st.WARNING, "+failover-state-reconf-slaves", master.text())
        force_hello(master)
        return
    wait = 4 * st.PUBLISH_PERIOD
    is_stable = ri.no_down_for(wait) and sentinel.now_ms() - ri.role_reported_time > wait
    if not ri.promoted and master.looks_sane() and is_stable and send_slaveof(sentinel, ri, master.address):
        sentinel.event(st.NOTICE, "+convert-to-slave", ri.text())


def _slave_says_slave(sentinel: State, ri: Instance) -> None:
    master, now = _master_of(ri), sentinel.now_ms()
    if ri.slave_master != master.address:
        wait = master.failover_timeout
        is_stable = ri.no_down_for(wait) and now - ri.slave_conf_change_time > wait
        if master.looks_sane() and is_stable and send_slaveof(sentinel, ri, master.address):
            sentinel.event(st.NOTICE, "+fix-slave-config", ri.text())
    promoted = master.promoted_slave
    if ri.reconf_sent and promoted is not None and ri.slave_master == promoted.address:
        ri.reconf_sent, ri.reconf_inprog = False, True
        sentinel.event(st.NOTICE, "+slave-reconf-inprog", ri.text())
    if ri.reconf_inprog and ri.slave_master_link_up:
        ri.reconf_inprog, ri.reconf_done = False, True
        sentinel.event(st.NOTICE, "+slave-reconf-done", ri.text())


def _master_of(ri: Instance) -> Instance:
    assert ri.master is not None, f"{ri.name} is nobody's replica"
    return ri.master


def send_slaveof(sentinel: State, ri: Instance, master: Address | None) -> bool:
    """sentinelSendSlaveOf; False where there is no connection to send it over."""
    link = ri.link
    if link.cc is None:
        return False
    command = SlaveOf(master)

    def executed(_reply: object) -> None:
        link.pending_commands -= command.commands

    sentinel.send(link.cc, command, executed)
    link.pending_commands += command.commands
    return True


# ---- hellos


def process_hello(sentinel: State, hello: Hello) -> None:
    """sentinelProcessHelloMessage."""
    master = sentinel.masters.get(hello.master)
    if master is None:
        return
    other = master.sentinels.get(hello.runid)
    if other is None or other.address != hello.sentinel:
        other = _meet(sentinel, master, hello)
    sentinel.heed_epoch(hello.current_epoch)
    if master.config_epoch < hello.config_epoch:
        master.config_epoch = hello.config_epoch
        if hello.master_address != master.address:
            sentinel.event(st.WARNING, "+config-update-from", other.text())
            switch_master(sentinel, master, hello.master_address)
    other.last_hello_time = sentinel.now_ms()


def _meet(sentinel: State, master: Instance, hello: Hello) -> Instance:
    """A Sentinel that is new, or has another address, or has the address of one that is gone."""
    before = master.sentinels.get(hello.runid)
    if before is not None:
        master.sentinels.remove(before)
        text = f"{master.text()} ip {hello.sentinel.host} port {hello.sentinel.port} for {hello.runid}"
        sentinel.event(st.NOTICE, "+sentinel-address-switch", text)
    else:
        gone = next((one for one in master.sentinels.all if one.address == hello.sentinel), None)
        if gone is not None:
            sentinel.event(st.NOTICE, "+sentinel-invalid-addr", gone.text())
            for each in sentinel.masters.all:
                same = each.sentinels.get(gone.runid)
                if same is not None:
                    each.sentinels.remove(same)
    other = sentinel.create("sentinel", hello.runid, hello.sentinel, master)
    assert other is not None, "one of that run id was there"
    if before is None:
        sentinel.event(st.NOTICE, "+sentinel", other.text())
    other.runid = hello.runid
    share_link(sentinel, other)
    if before is not None:
        _update_address(sentinel, other)
    sentinel.flush_config()
    return other


def share_link(sentinel: State, ri: Instance) -> None:
    """sentinelTryConnectionSharing: one link to a Sentinel, however many masters it watches."""
    for master in sentinel.masters.all:
        match = master.sentinels.get(ri.runid) if master is not ri.master else None
        if match is not None:
            ri.link.release()
            ri.link = match.link
            ri.link.refcount += 1
            return


def _update_address(sentinel: State, ri: Instance) -> None:
    """sentinelUpdateSentinelAddressInAllMasters."""
    updated = 0
    for master in sentinel.masters.all:
        match = master.sentinels.get(ri.runid)
        if match is not None:
            match.link.close_commands()
            if match is not ri:
                match.address = ri.address
                updated += 1
    if updated:
        sentinel.event(st.NOTICE, "+sentinel-address-update", f"{ri.text()} {updated} additional matching instances")


# ---- another master


def switch_master(sentinel: State, master: Instance, address: Address) -> None:
    """+switch-master, and what follows it."""
    before = master.address
    sentinel.event(st.WARNING, "+switch-master", f"{master.name} {before.host} {before.port} {address.host} {address.port}")
    _change_address(sentinel, master, address)


def _change_address(sentinel: State, master: Instance, address: Address) -> None:
    """sentinelResetMasterAndChangeAddress: the replicas are kept, and the old master becomes one of them."""
    replicas = [slave.address for slave in master.slaves.all if slave.address != address]
    if master.address != address:
        replicas.append(master.address)
    _reset_master(sentinel, master)
    master.address = address
    master.o_down_since_time = master.s_down_since_time = 0
    for replica in replicas:
        slave = sentinel.create("slave", "", replica, master)
        if slave is not None:
            sentinel.event(st.NOTICE, "+slave", slave.text())
    sentinel.flush_config()


def _reset_master(sentinel: State, master: Instance) -> None:
    """sentinelResetMaster, the other Sentinels left alone."""
    now = sentinel.now_ms()
    master.slaves.clear()
    link = master.link
    link.close_commands()
    link.close_pubsub()
    master.s_down = master.o_down = master.master_reboot = master.script_kill_sent = False
    master.failover_in_progress = master.force_failover = False
    master.leader, master.failover_state, master.failover_state_change_time = "", st.NONE, 0
    master.failover_start_time, master.promoted_slave = 0, None
    master.runid, master.slave_master = "", None
    link.act_ping_time = link.last_avail_time = link.last_pong_time = now
    link.last_ping_time = 0
    master.role_reported, master.role_reported_time = "master", now
