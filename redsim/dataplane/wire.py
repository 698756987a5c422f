"""Connections between servers: what is on its way, when it arrives, whom it wakes.

Mirrors a TCP connection as both ends see it: bytes leave in order at the link's bandwidth, arrive a one-way delay later, and the
sender's write takes no more than both socket buffers have room for until it hears, a delay later, what was read. Positions
travel, not bytes: `upto` is an offset of the stream, or a byte of the RDB file.

    post(w, l, lane, at, upto)    something of connection `l` is on its way and arrives at `at`, not before what went before it
    take_mail(w, now)             what has arrived by now; whoever it concerns is ready for the next poll
    marker(l, is_master_end)      a connection with a peer among the ready and the pending clients: a number below NONE

Differs: mail of one lane beyond MAIL_ROWS arrives with the last of them. What has arrived is taken before the clients' events of
the same poll.
Not modelled: packets, their loss but as a bandwidth and a hold (host/network.py), delayed ACKs, Nagle.
"""

import numpy as np

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.connections import ring_push
from redsim.dataplane.draws import below_ns
from redsim.dataplane.events import NEVER
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import MSS_BYTES, bytes_ns, frame_bytes

PROBE_MIN_NS = 10_000_000  # net/ipv4/tcp_output.c: tcp_schedule_loss_probe
PPB = 1_000_000_000


@inlined
def marker(link, is_master_end):
    """The connection in the ring of ready clients or the list of pending ones, as one of its ends."""
    return NONE - 1 - 2 * link - is_master_end


@compiled
def wake_master_end(w: World, link):
    """The master's end of the connection is ready for the next poll."""
    if not w.wire[link, W_READY_MASTER]:
        w.wire[link, W_READY_MASTER] = 1
        ring_push(w, marker(link, 1))


@compiled
def wake_replica_end(w: World, link):
    """The replica's end of the connection is ready for the next poll."""
    if not w.wire[link, W_READY_REPLICA]:
        w.wire[link, W_READY_REPLICA] = 1
        ring_push(w, marker(link, 0))


@compiled
def look_at_peers(w: World):
    """The loop has not looked at its connections with other servers for a while: all of them are ready."""
    for link in range(w.wire.shape[0]):
        if w.wire[link, W_FROM] == w.repl[M_SELF]:
            wake_master_end(w, link)
        elif w.wire[link, W_TO] == w.repl[M_SELF]:
            wake_replica_end(w, link)


@compiled
def post(w: World, link, lane, at, upto):
    """The position `upto` is on its way in `lane` and arrives at `at`, not before what went before it."""
    row, mail = w.wire[link], w.mail
    base = (link * LANES + lane) * MAIL_ROWS
    at = max(at, row[W_LAST + lane])
    row[W_LAST + lane] = at
    n = row[W_QUEUED + lane]
    if n < MAIL_ROWS:
        row[W_QUEUED + lane] = n + 1
        n += 1
    last = base + (row[W_HEAD + lane] + n - 1) % MAIL_ROWS
    mail[last, 0] = at
    mail[last, 1] = upto


@compiled
def depart(w: World, link, lane, size, upto):
    """`size` bytes have been written to the connection now: they leave behind what is on the link already."""
    row = w.wire[link]
    row[W_BUSY] = max(w.st[NOW], row[W_BUSY]) + bytes_ns(size, row[W_PS])
    if w.cost[NIC_PS] > 0:
        w.st[NIC_OUT] = max(w.st[NOW], w.st[NIC_OUT]) + bytes_ns(frame_bytes(size), w.cost[NIC_PS])
        row[W_BUSY] = max(row[W_BUSY], w.st[NIC_OUT])
    post(w, link, lane, max(row[W_BUSY] + row[W_DELAY] + trouble_ns(w, row, size), row[W_HOLD]), upto)


@compiled
def reply(w: World, link, lane, upto):
    """A few bytes from the replica to its master, now."""
    row = w.wire[link]
    post(w, link, lane, max(w.st[NOW] + row[W_DELAY] + trouble_ns(w, row, 1), row[W_HOLD_BACK]), upto)


@compiled
def trouble_ns(w: World, row, size):
    """How much later `size` bytes arrive for jitter, and for a packet of them that was lost: a round trip, behind the last
    packets the tail loss probe."""
    ns, luck = np.int64(0), w.rng.shape[0] - 1
    if row[W_JITTER] > 0:
        ns += below_ns(w.rng, luck, row[W_JITTER] + 1)
    if row[W_LOSS_PPB] > 0:
        packets = 1 + size // MSS_BYTES
        if below_ns(w.rng, luck, PPB) < min(packets * row[W_LOSS_PPB], PPB):
            ns += 2 * row[W_DELAY] if packets > 3 else max(4 * row[W_DELAY], PROBE_MIN_NS)
    return ns


@compiled
def _arrived(w: World, link, lane, now):
    """The last position of the lane that has arrived by now; NONE: nothing has."""
    row, mail = w.wire[link], w.mail
    base = (link * LANES + lane) * MAIL_ROWS
    upto = NONE
    while row[W_QUEUED + lane] > 0:
        first = base + row[W_HEAD + lane]
        if mail[first, 0] > now:
            break
        upto = mail[first, 1]
        row[W_HEAD + lane] = (row[W_HEAD + lane] + 1) % MAIL_ROWS
        row[W_QUEUED + lane] -= 1
        if lane < LANE_SEEN:
            row[W_LAST_IO] = mail[first, 0]
        elif lane == LANE_ACK:
            row[W_ACK_AT] = mail[first, 0]
            row[W_ACKS] += 1
    return upto


@compiled
def take_mail(w: World, now):
    """All that has arrived by now at this server's connections with others."""
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        if row[W_TO] == w.repl[M_SELF]:
            upto = _arrived(w, link, LANE_BULK, now)
            if upto != NONE:
                row[W_BULK_ARRIVED] = upto
                wake_replica_end(w, link)
            upto = _arrived(w, link, LANE_STREAM, now)
            if upto != NONE:
                row[W_ARRIVED] = upto
                wake_replica_end(w, link)
        elif row[W_FROM] == w.repl[M_SELF]:
            upto = _arrived(w, link, LANE_SEEN, now)
            if upto != NONE:
                row[W_SEEN] = upto
            read = _arrived(w, link, LANE_BULK_SEEN, now)
            if read != NONE:
                row[W_BULK_SEEN] = read
            fack = _arrived(w, link, LANE_FACK, now)
            if fack != NONE:
                row[W_FACK] = fack
            ack = _arrived(w, link, LANE_ACK, now)
            if ack != NONE:
                row[W_ACK] = ack
            if ack != NONE or (row[W_WANT] and (upto != NONE or read != NONE)):
                wake_master_end(w, link)


@compiled
def next_mail(w: World):
    """When the next thing arrives that is on its way to this server; NEVER: nothing is."""
    at = NEVER
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        first, last = (LANE_STREAM, LANE_SEEN) if row[W_TO] == w.repl[M_SELF] else (LANE_SEEN, LANES)
        if row[W_TO] == w.repl[M_SELF] or row[W_FROM] == w.repl[M_SELF]:
            for lane in range(first, last):
                if row[W_QUEUED + lane] > 0:
                    at = min(at, w.mail[(link * LANES + lane) * MAIL_ROWS + row[W_HEAD + lane], 0])
    return at
