"""Bad input, said once: `ScenarioError`, whose text is the one sentence the user reads.

Where possible it names file, line, key and value, and ends with the likely cure. Not modelled: error codes.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["ScenarioError", "did_you_mean"]

_WORD_CHARS_MAX = 100  # difflib takes quadratic time; nobody mistypes that much


class ScenarioError(Exception):
    """The input cannot be simulated as it stands; `str(error)` is the sentence for the user, on one line.

    Names and values come from the user's files: what would not print (a newline, say) is escaped.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'allkeys-lru'?"`, or `""` if nothing in `known` is near `word` (case ignored)."""
    if len(word) > _WORD_CHARS_MAX:
        return ""
    by_lower = {name.lower(): name for name in sorted(known)}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
