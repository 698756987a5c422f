"""How many bytes RESP makes of a number or a string.

Mirrors networking.c: addReplyBulk, addReplyLongLong; the same encoding stands in the AOF. Not modelled: RESP3.
"""

from redsim.dataplane.compile import inlined


@inlined
def digits(n):
    """Decimal digits of n >= 0."""
    count = 1
    while n >= 10_000:
        n //= 10_000
        count += 4
    return count + (n >= 10) + (n >= 100) + (n >= 1000)


@inlined
def bulk(n):
    """RESP bytes of a bulk string of n bytes."""
    return 5 + digits(n) + n
