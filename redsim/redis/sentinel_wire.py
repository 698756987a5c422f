"""What a Sentinel says and hears: addresses, commands, replies, and the Protocol of whoever carries them.

Mirrors sentinel.c of 7.0: a command connection to every instance, a pub/sub connection to masters and replicas; the commands
PING, INFO, PUBLISH __sentinel__:hello, SENTINEL IS-MASTER-DOWN-BY-ADDR, the SLAVEOF transaction and SCRIPT KILL; hiredis: what
is sent before a connection is there waits for it, replies come in order, none after the connection was closed.

    Sentinel --connect--> Wire      gives a Connection at once; refused, reset or timed out is told later, by on_lost
             --send-----> Wire      the reply comes by on_reply, or never
    Wire     --deliver--> Sentinel  replies, messages of the hello channel, losses, at the instant when its socket has them
             --request--> Sentinel  a command of another Sentinel or of a client, with the function that takes the answer

`delay_ns`: so much later than now; a Sentinel's loop is ahead of the clock while it writes its configuration.
Not modelled: bytes, AUTH, CLIENT SETNAME, TLS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

__all__ = [
    "ANY", "INFO", "PING", "SCRIPT_KILL", "Address", "Command", "Connection", "Failover", "GetMasterAddr", "Hello", "Info",
    "InfoReply", "IsMasterDown", "MasterDownReply", "Ping", "Publish", "Purpose", "Receiver", "ScriptKill", "SlaveOf", "Wire",
]  # fmt: skip

Purpose = Literal["cmd", "pubsub"]
HELLO_CHANNEL = "__sentinel__:hello"
ANY = "*"  # no vote is asked for, or none was given


class Address(NamedTuple):
    """Where a server or a Sentinel listens; `host` is whatever the wire knows: a node's name, an address."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """As Sentinel names replicas."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Hello:
    """The eight fields of a message on __sentinel__:hello."""

    sentinel: Address
    runid: str
    current_epoch: int
    master: str
    master_address: Address
    config_epoch: int

    def payload(self) -> str:
        """As it is sent."""
        here, there = self.sentinel, self.master_address
        sender = f"{here.host},{here.port},{self.runid},{self.current_epoch}"
        return f"{sender},{self.master},{there.host},{there.port},{self.config_epoch}"


# ---- commands


@dataclass(frozen=True, slots=True)
class Ping:
    """The reply is "PONG", "LOADING", "MASTERDOWN", "BUSY" or another error's first word."""


@dataclass(frozen=True, slots=True)
class Info:
    """The reply is an InfoReply, of a server that loads too; one that runs a script too long answers "BUSY"."""


@dataclass(frozen=True, slots=True)
class ScriptKill:
    """The reply does not matter."""


@dataclass(frozen=True, slots=True)
class Publish:
    """To a server: everyone subscribed to the hello channel gets it, the sender too; from a master it goes down the replication
    stream to those subscribed to replicas. To a Sentinel: it takes it itself. The reply is an int, or an error's first word."""

    hello: Hello

    def stream_bytes(self) -> int:
        """What it adds to a master's replication stream, in RESP; a replica keeps it to itself."""
        words = ("PUBLISH", HELLO_CHANNEL, self.hello.payload())
        return len(f"*{len(words)}\r\n") + sum(len(f"${len(word)}\r\n{word}\r\n") for word in words)


@dataclass(frozen=True, slots=True)
class IsMasterDown:
    """SENTINEL IS-MASTER-DOWN-BY-ADDR; `runid` asks for a vote, ANY does not. The reply is a MasterDownReply."""

    address: Address
    epoch: int
    runid: str


@dataclass(frozen=True, slots=True)
class SlaveOf:
    """MULTI; SLAVEOF; CONFIG REWRITE; CLIENT KILL TYPE normal; CLIENT KILL TYPE pubsub; EXEC. `master` None: NO ONE. A server
    that loads refuses it as a whole. The reply does not matter."""

    master: Address | None
    commands: int = 6  # replies that Sentinel waits for


@dataclass(frozen=True, slots=True)
class GetMasterAddr:
    """SENTINEL GET-MASTER-ADDR-BY-NAME, of a client. The reply is an Address or None."""

    master: str


@dataclass(frozen=True, slots=True)
class Failover:
    """SENTINEL FAILOVER, of an administrator. The reply is "OK", "INPROG" or "NOGOODSLAVE"."""

    master: str


Command = Ping | Info | ScriptKill | Publish | IsMasterDown | SlaveOf | GetMasterAddr | Failover
PING, INFO, SCRIPT_KILL = Ping(), Info(), ScriptKill()


# ---- replies


@dataclass(frozen=True, slots=True)
class InfoReply:
    """What Sentinel reads of INFO. Of a replica: its master, the link to it, since when that is down, its priority, the offset
    that it has read. Of a master: the addresses of its replicas."""

    run_id: str
    role: Literal["master", "slave"]
    replicas: tuple[Address, ...] = ()
    master: Address | None = None
    master_link_up: bool = False
    master_link_down_s: int = 0
    priority: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class MasterDownReply:
    """Whether it has the master down, whom it voted for (ANY: nobody), in which epoch."""

    is_down: bool
    leader: str
    leader_epoch: int


# ---- who carries them


class Receiver(Protocol):
    """A Sentinel, as the wire sees it."""

    name: str
    is_alive: bool

    def deliver(self, connection: "Connection", callback: Callable[[Any], None], message: Any) -> None:
        """`message` is in the socket of `connection`; `callback` takes it when the loop reads it. A loss comes last."""

    def request(self, command: Command, answer: Callable[[Any, int], None]) -> None:
        """Another process asks; `answer(reply, delay_ns)` is called when the loop has run the command."""


class Connection(Protocol):
    """One TCP connection, from the side of the Sentinel that opened it."""

    is_closed: bool  # by this Sentinel: nothing more is delivered

    def send(self, command: Command, on_reply: Callable[[Any], None], delay_ns: int) -> None:
        """`command` leaves after `delay_ns`, once the connection is there."""

    def close(self) -> None:
        """The Sentinel closes it; nothing more is delivered."""


class Wire(Protocol):
    """The network and everything behind it."""

    def connect(
        self, who: Receiver, to: Address, purpose: Purpose, on_lost: Callable[[Any], None],
        on_message: Callable[[Any], None] | None, delay_ns: int,
    ) -> Connection:  # fmt: skip
        """A connection on its way. `on_lost` takes the connection when it was refused, reset or timed out. pubsub: it is
        subscribed to the hello channel; `on_message` takes None once for that, then each Hello."""
