"""A connection to somebody's server that can only ask: commands of a fixed read-only list, secrets never in what it says.

An error tells the kind of refusal in words of ours, since a server's own text may quote what was sent, password included.
Differs from redis-py: replies come as the server sent them. Not modelled: clusters; one server, or one Sentinel, is asked.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redsim.scenario.errors import ScenarioError

TIMEOUT_S = 10.0  # for an answer; a server that takes longer is not asked again
READ_ONLY = frozenset({
    "INFO", "CONFIG|GET", "SLOWLOG|GET", "LATENCY|LATEST", "LATENCY|HISTOGRAM", "CLIENT|LIST", "CLIENT|NO-TOUCH", "SCAN", "TYPE",
    "MEMORY|USAGE", "OBJECT|ENCODING", "OBJECT|FREQ", "STRLEN", "LLEN", "HLEN", "SCARD", "ZCARD", "PTTL", "TIME", "MONITOR",
    "SENTINEL|MASTERS", "SENTINEL|REPLICAS", "SENTINEL|SENTINELS",
})  # fmt: skip


def masked(url: str) -> str:
    """The URL as errors show it: no user, no password, no query."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the URL"
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{place}{parts.path}"


@dataclass
class Asker:
    """A connection that can only ask. `ask` gives the raw reply; None, and a line in `refused`, where the server refuses."""

    url: str = field(repr=False)
    redis: Any = field(repr=False)
    module: Any
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def connect(cls, url: str, db: int | None = None) -> "Asker":
        """By redis-py's URL (redis://, rediss://, unix://); ScenarioError without secrets if it is not one."""
        try:
            import redis as module
        except ImportError:
            raise ScenarioError("redis-py is not installed; `pip install redsim-des[lab]`") from None
        try:
            client = module.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        except (ValueError, TypeError, module.RedisError):
            raise ScenarioError(f"{masked(url)} is not a URL redis-py takes; write it like redis://127.0.0.1:6379/0") from None
        client.response_callbacks.clear()  # replies as they came
        if db is not None:
            client.connection_pool.connection_kwargs["db"] = db
        return cls(url, client, module)

    def ask(self, *words: Any) -> Any:
        return self.many([words])[0]

    def many(self, asked: list[tuple[Any, ...]]) -> list[Any]:
        """Replies of several commands sent in one write, None for each that was refused."""
        for words in asked:
            assert command_name(words) in READ_ONLY, f"{command_name(words)} is not in READ_ONLY"
        try:
            pipe = self.redis.pipeline(transaction=False)
            for words in asked:
                pipe.execute_command(*words)
            replies = pipe.execute(raise_on_error=False)
        except self.module.AuthenticationError:
            raise ScenarioError(f"{masked(self.url)}: the server refused the user or password; correct them in the URL") from None
        except self.module.ResponseError as error:
            raise ScenarioError(f"{masked(self.url)}: the server refuses the connection ({refusal(error)})") from None
        except (self.module.RedisError, OSError, ValueError, TypeError) as error:
            hint = "is the server running, and may this machine reach it?"
            if self.url.startswith("rediss"):
                hint += " Does it speak TLS, and is its certificate known here (?ssl_ca_certs=FILE)?"
            raise ScenarioError(f"{masked(self.url)}: no answer ({type(error).__name__}); {hint}") from None
        out = []
        for words, reply in zip(asked, replies, strict=True):
            if isinstance(reply, self.module.RedisError):
                self._note(command_name(words), reply)
                reply = None
            out.append(reply)
        return out

    def _note(self, name: str, error: Exception) -> None:
        if refusal(error) == "NOAUTH":
            raise ScenarioError(f"{masked(self.url)}: the server asks for a password; put it in the URL, redis://:password@host")
        self.refused.setdefault(name, refusal(error))

    def close(self) -> None:
        self.redis.close()


def command_name(words: tuple[Any, ...]) -> str:
    """`CONFIG|GET` of ("CONFIG", "GET", "*"), as commandstats names it."""
    first = str(words[0]).upper()
    containers = {name.partition("|")[0] for name in READ_ONLY if "|" in name}
    return f"{first}|{str(words[1]).upper()}" if first in containers else first


def refusal(error: Exception) -> str:
    """Why, in words of ours: an error's text may quote what was sent."""
    text, kind = str(error), type(error).__name__
    if kind == "NoPermissionError" or "NOPERM" in text or "no permissions" in text:
        return "NOPERM: this user may not"
    if text.startswith("NOAUTH") or kind == "AuthenticationError" or "Authentication required" in text:
        return "NOAUTH"
    if "unknown" in text.lower():
        return "unknown command: renamed, removed, or not in this version"
    return kind


def as_text(raw: Any) -> str:
    """A reply as text; bytes that are not UTF-8 are escaped."""
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)
