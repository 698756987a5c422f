"""A request's life: drawn, linked to its slot, carried to the socket, answered, counted, its row reused.

Two interests hold a row: the client's (Z_LIVE, linked in the slot's FIFO) and the server's (Z_SERVER: in flight or in a
connection). A client that gave up leaves a zombie that the server still reads, executes and answers to nobody: what retry
storms are made of.
"""

from redsim.dataplane.compile import add_causes, add_grown_causes, compiled, inlined, prefetch
from redsim.dataplane.draws import below_ns, draw_ahead, draw_size, exponential
from redsim.dataplane.events import push
from redsim.dataplane.histogram import COARSE_BITS, FINE_BITS, bit_length, bucket_of
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import record_request


@inlined
def take_row(w: World):
    """A free request row; the caller made sure there is one (NEED)."""
    st = w.st
    r = st[REQ_FREE]
    st[REQ_FREE] = w.req[r, R_NEXT]
    st[REQ_FREE_N] -= 1
    return r


@inlined
def give_row(w: World, r):
    """The row may be used again."""
    st = w.st
    w.req[r, R_FLAGS] = 0
    w.req[r, R_NEXT] = st[REQ_FREE]
    st[REQ_FREE] = r
    st[REQ_FREE_N] += 1


@inlined
def drop_server_interest(w: World, r):
    """The server has answered or lost the request."""
    flags = w.req[r, R_FLAGS] & ~Z_SERVER
    w.req[r, R_FLAGS] = flags
    if flags & (Z_LIVE | Z_QUEUED) == 0:
        give_row(w, r)


@inlined
def drop_client_interest(w: World, r):
    """Unlink the request from its slot; the row is free unless the server still holds it or it waits unsent."""
    s = w.req[r, R_SLOT]
    if w.slot[s, S_HEAD] == r:
        w.slot[s, S_HEAD] = w.req[r, R_SNEXT]
        if w.slot[s, S_HEAD] == NONE:
            w.slot[s, S_TAIL] = NONE
    else:
        unlink_later(w, s, r)
    flags = w.req[r, R_FLAGS] & ~Z_LIVE
    w.req[r, R_FLAGS] = flags
    if flags & (Z_SERVER | Z_QUEUED) == 0:
        give_row(w, r)


@compiled
def unlink_later(w: World, s, r):
    """Unlink `r`, which is not the oldest of its slot: an older one was answered too late and waits for its alarm."""
    before = w.slot[s, S_HEAD]
    while w.req[before, R_SNEXT] != r:
        before = w.req[before, R_SNEXT]
    w.req[before, R_SNEXT] = w.req[r, R_SNEXT]
    if w.slot[s, S_TAIL] == r:
        w.slot[s, S_TAIL] = before


@inlined
def link_to_slot(w: World, s, r):
    """The newest request of slot `s`."""
    w.req[r, R_SNEXT] = NONE
    if w.slot[s, S_TAIL] == NONE:
        w.slot[s, S_HEAD] = r
    else:
        w.req[w.slot[s, S_TAIL], R_SNEXT] = r
    w.slot[s, S_TAIL] = r


@inlined
def new_request(w: World, g, s, intended):
    """Draw a command, a key and a value for group `g`; the client's clock starts at `intended`."""
    group, req, kind = w.group, w.req, w.kind
    r = take_row(w)
    row = req[r]
    if group[g, G_MODE] == TRACE:
        i = group[g, G_TRACE0] + group[g, G_TRACE_I]
        k = w.trace[i, 1]
        row[R_KEY] = w.trace[i, 2]
        value = w.trace[i, 4]
    else:
        if group[g, G_DRAWN] == (g + 1) * AHEAD:
            draw_ahead(w, g)
        drawn = w.drawn[group[g, G_DRAWN]]
        group[g, G_DRAWN] += 1
        k = drawn[0]
        row[R_KEY] = drawn[1]
        value = 0
        if kind[k, K_VDIST] >= 0:
            value = draw_size(w.rng, g * RNG_PER_GROUP + RNG_SIZE, w.tab, w.dist, kind[k, K_VDIST])
    if row[R_KEY] >= 0:
        prefetch(w.kv, row[R_KEY])
    row[R_KIND] = k
    row[R_ARG] = value
    row[R_BYTES] = kind[k, K_REQ_BYTES] + (value_bytes(w, k, value) if value > 0 else 0)
    row[R_SLOT] = s
    row[R_INTENDED] = intended
    row[R_BEGIN] = intended
    row[R_ATTEMPT] = 0
    row[R_OWN] = 0
    row[R_WAITS] = 0
    row[R_FLAGS] = Z_LIVE
    row[R_NEXT] = NONE
    row[R_CONN] = NONE
    count_offered(w, g, intended, 1)
    link_to_slot(w, s, r)
    w.slot[s, S_OUT] += 1
    return r


@inlined
def count_offered(w: World, g, intended, by):
    """A request of group `g` that its clients meant to send then: one more (1) is offered, or one less (-1)."""
    w.group[g, G_OFFERED] += by
    w.group[g, G_AREA] += by * (w.st[END] - intended)
    w.offered[window_of(w, intended), g] += by


@inlined
def window_of(w: World, t):
    """Window of time `t`; the last one found is remembered, as a division is dear here."""
    st = w.st
    if 0 <= t - st[WINDOW_FROM] < st[WINDOW]:
        return st[WINDOW_NO]
    number = min(t // st[WINDOW], st[WINDOWS] - 1)
    st[WINDOW_NO] = number
    st[WINDOW_FROM] = number * st[WINDOW]
    return number


@inlined
def value_bytes(w: World, k, value):
    """RESP bytes of the value arguments: MSET sends one for each key, of about the first one's size."""
    n = 1
    v = value
    while v >= 10:
        v //= 10
        n += 1
    return (5 + n + value) * (w.kind[k, K_NKEYS] if w.kind[k, K_OP] == OP_MSET else 1)


@compiled
def seal(w: World, r):
    """The answer's last byte left now, but its client will count it later: keep what `held` has grown by since the arrival."""
    for k in range(WAKE, w.held.shape[0]):
        w.snap[r, k] = w.held[k] - w.snap[r, k]
    w.req[r, R_WAITS] = 1


@inlined
def count_latency(w: World, r, g, start, done):
    """One answer in the histograms and in the blame of its latency bucket."""
    st, req = w.st, w.req
    latency = done - start
    k = req[r, R_KIND]
    series = w.kind[k, K_SERIES]
    length = bit_length(max(latency, 1))
    coarse = bucket_of(latency, length, COARSE_BITS)
    window = window_of(w, done)
    w.heat[window, series, coarse] += 1
    mine = w.smax[window, series]
    if latency > mine[0]:
        mine[0] = latency
    mine[1] += latency
    if start < st[WARMUP]:
        return
    w.hist[series, bucket_of(latency, length, FINE_BITS)] += 1
    whole = w.smax[st[WINDOWS], series]
    if latency > whole[0]:
        whole[0] = latency
    whole[1] += latency
    blame = w.blame[g, coarse]
    retry = req[r, R_BEGIN] - req[r, R_INTENDED] if start == req[r, R_INTENDED] else 0
    network = req[r, R_ARRIVE] - req[r, R_SENT] + req[r, R_DELIVER] - req[r, R_LEFT]
    if req[r, R_WAITS]:
        add_causes(w, blame, w.snap[r])
    else:
        add_grown_causes(w, blame, w.held, w.snap[r])
    blame[OWN] += req[r, R_OWN]
    blame[NETWORK] += network
    blame[RETRY] += retry
    blame[CLIENT] += latency - retry - network - (req[r, R_LEFT] - req[r, R_ARRIVE])


@compiled
def wonder(w: World, g, t):
    """Clients that follow a service have lost their master, or were told that it is none: they will ask."""
    if w.group[g, G_FOLLOWS] == ASKS and not w.group[g, G_AWAY] and w.group[g, G_WONDERS] == 0:
        w.group[g, G_WONDERS] = max(t, 1)
        w.repl[M_WANT] |= CLIENTS_WONDER


@compiled
def note_gap(w: World, g, done):
    """The longest time in which clients that follow a service had no answer but errors."""
    group = w.group
    if done - group[g, G_DONE_AT] > group[g, G_GAP]:
        group[g, G_GAP], group[g, G_GAP_FROM] = done - group[g, G_DONE_AT], group[g, G_DONE_AT]
    group[g, G_DONE_AT] = max(group[g, G_DONE_AT], done)


@compiled
def count_refusal(w: World, g, flags, t):
    """An answer that is an error, of group `g`, at `t`."""
    group = w.group
    group[g, G_FAILED] += 1
    if flags & (Z_READONLY | Z_MASTERDOWN):
        wonder(w, g, t)
        group[g, G_ERR_READONLY if flags & Z_READONLY else G_ERR_MASTERDOWN] += 1
    elif flags & (Z_LOADING | Z_NOREPLICAS):
        group[g, G_ERR_LOADING if flags & Z_LOADING else G_ERR_NOREPLICAS] += 1
    else:
        group[g, G_ERR_BUSY if flags & Z_BUSY else G_ERR_OOM if flags & Z_OOM else G_ERR_MISCONF] += 1


@inlined
def complete(w: World, r, g, start, done):
    """The client has its answer, be it an error: it waited for that too. `start` is where the group's clock starts."""
    group, req = w.group, w.req
    flags = req[r, R_FLAGS]
    group[g, G_AREA] -= w.st[END] - done
    group[g, G_LAT_SUM] += done - req[r, R_INTENDED]
    if flags & Z_REFUSED:
        count_refusal(w, g, flags, done)
    else:
        group[g, G_COMPLETED] += 1
        if group[g, G_FOLLOWS]:
            note_gap(w, g, done)
    count_latency(w, r, g, start, done)
    s, key = req[r, R_SLOT], req[r, R_KEY]
    w.slot[s, S_OUT] -= 1
    drop_client_interest(w, r)
    if flags & Z_MISS and group[g, G_FILL] >= 0:
        fetch_and_fill(w, g, s, key, done)


@compiled
def fetch_and_fill(w: World, g, s, key, t):
    """A cache-aside client of slot `s` has missed `key` at `t`: it fetches the value elsewhere, then SETs it on the same
    connection. The request's row is the one that the answer to the GET has just freed; the slot is not done until then."""
    group, req, kind = w.group, w.req, w.kind
    group[g, G_FETCHES] += 1
    w.slot[s, S_OUT] += 1
    at = t + group[g, G_FETCH]
    if group[g, G_FETCH_EXP]:
        at = t + int(exponential(w.rng, g * RNG_PER_GROUP + RNG_FETCH) * group[g, G_FETCH])
    if at >= w.st[END]:
        return
    k = group[g, G_FILL]
    value = draw_size(w.rng, g * RNG_PER_GROUP + RNG_SIZE, w.tab, w.dist, kind[k, K_VDIST])
    r = take_row(w)
    row = req[r]
    row[R_KIND], row[R_KEY], row[R_ARG], row[R_SLOT] = k, key, value, s
    row[R_BYTES] = kind[k, K_REQ_BYTES] + (value_bytes(w, k, value) if value > 0 else 0)
    row[R_INTENDED], row[R_BEGIN], row[R_ATTEMPT], row[R_OWN], row[R_WAITS] = at, at, 0, 0, 0
    row[R_FLAGS] = Z_LIVE | Z_QUEUED
    row[R_NEXT] = row[R_CONN] = NONE
    count_offered(w, g, at, 1)
    push(w, at, EV_RETRY, r)


@inlined
def think_until(w: World, g, t):
    """When a closed-loop client that is done at `t` asks again."""
    think = w.group[g, G_THINK]
    if think > 0 and w.group[g, G_THINK_EXP]:
        return t + int(exponential(w.rng, g * RNG_PER_GROUP + RNG_ARRIVAL) * think)
    return t + think


@compiled
def back_off(w: World, g, attempt):
    """Wait before the next attempt: doubled, or longer by as much, from one to the next up to the cap, then jittered."""
    backoff, cap = w.group[g, G_BACKOFF], w.group[g, G_CAP]
    for n in range(attempt):
        if backoff >= cap:
            break
        backoff = (n + 2) * w.group[g, G_BACKOFF] if w.group[g, G_LINEAR] else 2 * backoff
    backoff = min(backoff, cap)
    stream = g * RNG_PER_GROUP + RNG_JITTER
    if w.group[g, G_JITTER] == 1:
        return below_ns(w.rng, stream, backoff + 1)
    if w.group[g, G_JITTER] == 2:
        return backoff // 2 + below_ns(w.rng, stream, backoff // 2 + 1)
    return backoff


@compiled
def retry_or_fail(w: World, r, t, connection_lost):
    """Attempt `r` has failed at `t`: try again after a back-off, or give up."""
    group, req = w.group, w.req
    s = req[r, R_SLOT]
    g = w.slot[s, S_GROUP]
    group[g, G_ERR_CONN if connection_lost else G_ERR_TIMEOUT] += 1
    wonder(w, g, t)
    attempt = req[r, R_ATTEMPT]
    if attempt < group[g, G_RETRIES]:
        backoff = back_off(w, g, attempt)
        again = take_row(w)
        for i in range(req.shape[1]):
            req[again, i] = req[r, i]
        req[again, R_ATTEMPT] = attempt + 1
        req[again, R_FLAGS] = Z_LIVE | Z_QUEUED
        req[again, R_OWN] = 0
        req[again, R_WAITS] = 0
        req[again, R_NEXT] = NONE
        req[again, R_CONN] = NONE
        group[g, G_RETRIED] += 1
        push(w, t + backoff, EV_RETRY, again)
        drop_client_interest(w, r)
        return
    group[g, G_FAILED] += 1
    group[g, G_AREA] -= w.st[END] - t
    group[g, G_LAT_SUM] += t - req[r, R_INTENDED]
    w.slot[s, S_OUT] -= 1
    drop_client_interest(w, r)
    if group[g, G_MODE] == CLOSED and w.slot[s, S_OUT] == 0:
        wait = think_until(w, g, t)
        push(w, max(wait, t + group[g, G_BACKOFF]) if connection_lost else wait, EV_ISSUE, s)


@compiled
def oldest_deadline(w: World, s, g):
    """When the oldest request of slot `s` times out."""
    return w.req[w.slot[s, S_HEAD], R_BEGIN] + w.group[g, G_TIMEOUT]


@compiled
def note_waiting(w: World, r, done):
    """For the recording of the worst stall."""
    if w.st[REC_ON] and w.req[r, R_ARRIVE] < w.st[REC_UNTIL]:
        record_request(w, r, done)
