"""The twin's client machines: a loop that polls, reads an answer, writes a request, and pays for each.

Mirrors the last part of clients.py. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.answers import complete
from redsim.dataplane.twin.clients import issue, send, think_until
from redsim.dataplane.twin.things import UP, Sim, Slot, Thread


def thread_step(sim: Sim, thread: Thread, at: int) -> None:
    """A poll if the last one's sockets are used up, then one socket: read or written, whichever has been ready longer."""
    if thread.wakes != at:
        return  # it was woken earlier than this
    start, costs = at, thread.costs
    if thread.batch == 0:
        start += costs.poll
        if thread.asleep and not costs.spin:
            start += costs.wake
        thread.batch = sum(when <= at for when, _ in thread.reads + thread.writes)
    end = start
    if thread.batch > 0:
        thread.batch -= 1
        if thread.reads and (not thread.writes or thread.reads[0][0] <= thread.writes[0][0]):
            _, slot = thread.reads.pop(0)
            slot.readable = False
            end = thread_receives(sim, thread, slot, start)
        else:
            _, slot = thread.writes.pop(0)
            slot.writable = False
            end = thread_sends(sim, thread, slot, start)
    costs.busy += end - at
    thread.free, thread.wakes, thread.asleep = end, None, False
    ready = min((queue[0][0] for queue in (thread.reads, thread.writes) if queue), default=None)
    if ready is not None:
        thread.wakes, thread.asleep = max(end, ready), ready > end
        sim.push(thread.wakes, thread_step, thread)


def thread_sends(sim: Sim, thread: Thread, slot: Slot, start: int) -> int:
    """Writes what waits in the slot; returns when that is done."""
    chain = [request for request in slot.unsent if request.wanted] if slot.state == UP else []
    if not chain:
        return start
    end = start + thread.costs.send
    for request in chain:
        end += request.size * thread.costs.send_ps // 1000
        request.issued = start
    send(sim, slot, end)
    return int(end)


def thread_receives(sim: Sim, thread: Thread, slot: Slot, start: int) -> int:
    """Reads the answers that have come; returns when that is done. One still on its way will make the socket readable again."""
    group, costs = slot.group, thread.costs
    end = start + costs.recv
    received, total = False, 0
    while slot.outstanding and slot.outstanding[0].answered:
        request = slot.outstanding[0]
        if request.delivered > start:
            slot.readable = True
            sim.wake_for(thread, thread.reads, slot, request.delivered)
            break
        before, total = total, total + request.reply
        if group.measure:  # redis-benchmark reads 16 KiB at a time
            end += costs.recv * (max(total - 1, 0) // 16384 - max(before - 1, 0) // 16384)
        end += costs.each + request.reply * costs.recv_ps // 1000
        done = start if group.measure else end
        if done >= sim.end:
            break
        complete(sim, request, request.issued if group.measure else request.intended, done)
        received = True
    if received and group.mode == dp.CLOSED and slot.out == 0:
        again = think_until(group, end)
        if again == end:
            issue(sim, slot, again)
        else:
            sim.push(again, issue, slot)
    return int(end)
