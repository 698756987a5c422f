"""down-after, quorum, parallel-syncs and min-replicas: `redsim plan failover scenario.yaml`.

    the scenario, a setting, something that happens (failover_trials.py), as many seeds  ->  outages, false failovers, lost writes
    one directive after the other, the rest as chosen so far  ->  the setting with which nothing is worse and something better

    down-after       the least with which no calm run saw a failover nor a Sentinel that took the master for down, and which is
                     MARGIN times the longest stall of the master at least
    quorum           one with which a killed master is replaced although a Sentinel is dead, and a healthy one is not although a
                     Sentinel cannot see it, nor the new one after a strike; of those the one with the shortest outage; a majority
                     at least where no Sentinel can be blinded
    min-replicas     the one that loses the fewest writes of a master that is cut off, if nothing is refused while all is well and
                     a killed master's successor takes writes again
    parallel-syncs   the one with which all replicas follow the new master the soonest, if reads from replicas fare no worse

A directive that is safe is changed only where the seeds' paired differences show something better, each with 95 %; as the best of
several is compared, a change for nothing is likelier than one in forty. An outage that is not over by the end counts as endless.
Differs: each directive is chosen alone, in this order; what only two of them together would do is not looked for.
Not modelled: what the scenario does not have: a stall that is not in it makes no false failover here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from redsim.run.confidence import band, mean_between
from redsim.run.failover_trials import EARLIER_NS, Setting, Trial, instants, kinds_of, now_of, rules_of, trials_of, tried
from redsim.run.processes import each
from redsim.run.repeats import checked
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.units import MS, S, duration_ns, say_ns

__all__ = ["AXES", "FailoverPlan", "Share", "plan_failover"]

AXES = ("down-after-milliseconds", "quorum", "min-replicas", "parallel-syncs")
DOWN_AFTER_MS = (1000, 2000, 3000, 5000, 10_000, 30_000)  # below a second the PINGs' period shrinks with it (sentinelSendPing)
MIN_LAGS_S = (3, 10)  # min-replicas-max-lag beside the one of now: replicas acknowledge once a second; 10 is the default
MATTERS = 0.05  # guess: a mean that is better by less than a twentieth is no reason to change a directive
MARGIN = 1.5  # guess: how much longer tomorrow's stall may be than the longest one simulated
REPEATS, REPEATS_MAX = 12, 10_000
CUT_NS, CUT_MORE_NS = 30 * S, 10 * S  # longer than down-after, so that something comes of it
MS_MAX = 2**31 - 1  # sentinel.c takes no more
NEVER = float("inf")
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Share:
    """In how many runs of how many something was seen."""

    hits: int
    runs: int

    @property
    def share(self) -> float:
        """Of the runs."""
        return self.hits / self.runs

    @property
    def band(self) -> tuple[float, float]:
        """Where it may lie, 95 %."""
        return band(self.hits, self.runs)


@dataclass(frozen=True)
class Step:
    """How one directive was chosen: the settings that were tried, the one taken, why."""

    axis: str
    tried: tuple[Setting, ...]
    taken: Setting
    why: str
    is_safe: bool = True  # what is taken


@dataclass(frozen=True)
class FailoverPlan:
    """What came of it. `rows`: a row per run: the setting's columns, kind, seed, measured() of failover_trials.py; `strike`,
    `cut`: which kinds tell of outages and of lost writes (cut "": none can be)."""

    name: str
    service: str
    master: str
    port: int
    sentinels: int
    repeats: int
    cut_ns: int
    duration_ns: int
    strike: str
    cut: str
    now: Setting
    chosen: Setting
    steps: tuple[Step, ...]
    rows: pd.DataFrame = field(repr=False)
    notes: Sequence[str] = field(default_factory=tuple)
    guesses: Sequence[str] = field(default_factory=tuple)

    def of(self, setting: Setting, kind: str) -> pd.DataFrame:
        """The runs of a setting and a kind, by seed; empty: it was not tried."""
        is_there = self.rows["kind"] == kind
        for name, value in setting.row().items():
            is_there &= self.rows[name] == value
        return self.rows[is_there]

    def values(self, setting: Setting, kind: str, name: str) -> list[float]:
        """A figure of those runs; of outages that were not over by the end, so far."""
        return [float(value) for value in self.of(setting, kind)[name].dropna()]

    def share(self, setting: Setting, kind: str, name: str) -> Share | None:
        """In how many of those runs a count was above 0; None: there are none."""
        found = self.of(setting, kind)
        return Share(int((found[name] > 0).sum()), len(found)) if len(found) else None

    def lines_to_paste(self) -> list[str]:
        """sentinel.conf and redis.conf lines: only what changes."""
        now, chosen, name = self.now, self.chosen, self.service
        sentinel = [
            (now.quorum != chosen.quorum, f"sentinel monitor {name} {self.master} {self.port} {chosen.quorum}"),
            (now.down_after_ns != chosen.down_after_ns, f"sentinel down-after-milliseconds {name} {chosen.down_after_ns // MS}"),
            (now.parallel_syncs != chosen.parallel_syncs, f"sentinel parallel-syncs {name} {chosen.parallel_syncs}"),
        ]
        server = [
            (now.min_replicas != chosen.min_replicas, f"min-replicas-to-write {chosen.min_replicas}"),
            (now.min_lag_s != chosen.min_lag_s, f"min-replicas-max-lag {chosen.min_lag_s}"),
        ]
        out = []
        for head, lines in (("# sentinel.conf of every Sentinel", sentinel), ("# redis.conf of every server", server)):
            mine = [line for is_changed, line in lines if is_changed]
            out += [head, *mine] if mine else []
        return out


def plan_failover(
    scenario: Scenario, *, repeats: int = REPEATS, down_after: str | None = None, cut: str | None = None, own: bool = False,
    processes: int | None = None, progress: Progress = lambda what, share: None,
) -> FailoverPlan:  # fmt: skip
    """The plan for a scenario with Sentinels and clients that follow them.

    `repeats` seeds of each setting and kind; `down_after`: durations to try, with commas; `cut`: how long a host is cut off;
    `own`: strike as the scenario's own timeline does. ScenarioError for what cannot be planned.
    """
    checked(repeats, processes)
    if not 2 <= repeats <= REPEATS_MAX:
        raise ScenarioError(f"--repeats {repeats}: from 2 to {REPEATS_MAX:,}; 12 tell a median, 72 without a hit less than 5 %")
    given_ns = _duration("--cut", cut) if cut else None
    afters = _down_afters(down_after)
    _check(scenario, own)
    rules, file = rules_of(scenario), scenario.file
    cut_ns = given_ns or max(CUT_NS, rules.down_after_ns + CUT_MORE_NS)
    kinds = kinds_of(file, rules.host)
    strike, cut_kind = ("own", "own") if own else ("kill", "cut" if "cut" in kinds else "")
    runs = _Runs(scenario, repeats, cut_ns, processes, progress)
    search = _Search(runs, now_of(scenario), strike, cut_kind, kinds)
    steps = search.all(afters, len(file.sentinel_places), len(file.nodes) - 1)
    notes = _notes(scenario, kinds, own, cut_ns)
    return FailoverPlan(
        scenario.name, rules.name, rules.host, rules.port, len(file.sentinel_places), repeats, cut_ns, file.duration, strike,
        cut_kind, search.now, search.at, tuple(steps), runs.frame(), tuple(notes), tuple(runs.guesses),
    )  # fmt: skip


def _duration(option: str, text: str) -> int:
    try:
        ns = duration_ns(text)
    except ValueError as error:
        raise ScenarioError(f"{option} {text}: {error}") from None
    if ns < MS or ns % MS or ns // MS > MS_MAX:
        raise ScenarioError(f"{option} {text}: whole milliseconds, from 1 to {MS_MAX}, e.g. 3s")
    return ns


def _down_afters(text: str | None) -> list[int]:
    if not text:
        return [ms * MS for ms in DOWN_AFTER_MS]
    return sorted({_duration("--down-after", part.strip()) for part in text.split(",")})


def _check(scenario: Scenario, own: bool) -> None:
    """ScenarioError for a scenario that has nothing to plan."""
    file = scenario.file
    if scenario.sentinel_conf is None:
        raise ScenarioError(f"{scenario.where()}: plan failover needs Sentinels; add sentinels: with hosts and conf")
    if len(file.nodes) < 2:
        raise ScenarioError(f"{scenario.where('nodes')}: there is no replica that could take over; add one with replica_of")
    if not any(group.role == "master" for group in file.followers.values()):
        name = rules_of(scenario).name
        raise ScenarioError(
            f"{scenario.where('clients')}: no group follows the master, so nobody would see an outage; give one service: {name}"
        )
    first, last = instants(file)
    if last - first < EARLIER_NS:
        raise ScenarioError(
            f"{scenario.where('duration')}: from {say_ns(first)}, when all groups that follow ask and Sentinels have settled, to"
            f" {say_ns(last)} there is no room for a strike; make duration longer, or start earlier and stop later"
        )
    if own and "own" not in kinds_of(file, rules_of(scenario).host):
        raise ScenarioError(f"{scenario.where('timeline')}: --own: nothing on the timeline strikes the master; add a fault")


def _notes(scenario: Scenario, kinds: Sequence[str], own: bool, cut_ns: int) -> list[str]:
    out, rules = [], rules_of(scenario)
    if not own and "own" in kinds:
        out.append("the timeline's faults of servers and of the network are left out (--own strikes as it does)")
    if "cut" in kinds and not own and cut_ns <= rules.down_after_ns:
        out.append(f"a cut of {say_ns(cut_ns)} is over before the down-after of now, so nothing comes of it: a longer --cut")
    least = {name: int(conf.get("min-replicas-to-write")) for name, conf in scenario.confs.items()}
    if len(set(least.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in least.items())
        out.append(f"min-replicas-to-write differs ({said}): a promoted server has its own, the plan tells that of {rules.host}")
    if "short" not in kinds:
        out.append("there is one Sentinel: nobody replaces a master when it is dead, and that is not tried")
    if "cut" not in kinds:
        out.append("all is on one host, so that nothing can be cut off from the rest: nothing is said of min-replicas")
    if "blind" not in kinds:
        out.append("no minority of Sentinels has a host apart from the master's: what a blind one would do is not tried")
    return out


@dataclass
class _Runs:
    """Trials that were made, by setting and kind: rows in the order of the seeds."""

    scenario: Scenario
    repeats: int
    cut_ns: int
    processes: int | None
    progress: Progress
    done: dict[tuple[Setting, str], list[dict[str, Any]]] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)

    def make(self, settings: Iterable[Setting], kinds: Sequence[str], says: str, share: tuple[float, float]) -> None:
        """Those that are not there yet; `share`: of the whole plan done before and after."""
        wanted = [(one, kind) for one in settings for kind in kinds if (one, kind) not in self.done]
        trials = [trial for one, kind in wanted for trial in trials_of(self.scenario, one, [kind], self.repeats, self.cut_ns)]
        for n, ((_, trial), came) in enumerate(zip(trials, each(tried, trials, self.processes), strict=True), 1):
            self._keep(trial, came)
            self.progress(says, share[0] + (share[1] - share[0]) * n / len(trials))

    def _keep(self, trial: Trial, came: tuple[dict[str, Any], list[str]] | None) -> None:
        if came is None:
            raise KeyboardInterrupt
        row, guesses = came
        self.done.setdefault((trial.setting, trial.kind), []).append(row)
        self.guesses += [line for line in guesses if line not in self.guesses]

    def values(self, setting: Setting, kind: str, name: str) -> list[float]:
        """A figure of all those runs; what never came or was not over is infinite."""
        rows = self.done.get((setting, kind), [])
        endless = [row[name] is None or (name == "unavailable_s" and not row["is_over"]) for row in rows]
        return [NEVER if is_endless else float(row[name]) for is_endless, row in zip(endless, rows, strict=True)]

    def is_less(self, one: Setting, other: Setting, kind: str, name: str) -> bool:
        """Whether a figure is less with `one`, by pairs of the same seed, with 95 % confidence and by enough to matter."""
        before = self.values(other, kind, name)
        differences = [0.0 if a == b else a - b for a, b in zip(self.values(one, kind, name), before, strict=True)]
        if any(abs(d) == NEVER for d in differences):  # their signs are all that can be compared
            better, worse = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
            return better > 0 and band(better, better + worse)[0] > 0.5
        kept = sum(value for value in before if value < NEVER)
        return mean_between(differences)[1] < 0 and sum(differences) < -MATTERS * kept

    def rank(self, setting: Setting, kind: str, name: str) -> tuple[int, float]:
        """By which the least is chosen: how often it never came, the sum of the rest."""
        values = self.values(setting, kind, name)
        return sum(value == NEVER for value in values), sum(value for value in values if value < NEVER)

    def frame(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame([row for rows in self.done.values() for row in rows])


@dataclass
class _Search:
    """One directive after the other; `at`: what is chosen so far."""

    runs: _Runs
    now: Setting
    strike: str
    cut: str
    kinds: Sequence[str]

    def __post_init__(self) -> None:
        self.at = self.now

    def all(self, down_afters: Sequence[int], sentinels: int, replicas: int) -> list[Step]:
        """The steps, in order."""
        every = self._kinds("calm", self.strike, self.cut, "blind", "short")
        self.runs.make([self.now], every, "as it is", (0.0, 0.14))
        steps = [self._down_after(down_afters), self._quorum(range(1, sentinels + 1))]
        steps += [self._min_replicas()] if self.cut else []
        steps += [self._parallel_syncs(sorted({1, 2, replicas - 1}))] if replicas > 2 else []
        self.runs.make([self.at], every, "as chosen", (0.95, 1.0))
        return steps

    def _kinds(self, *wanted: str) -> list[str]:
        return [kind for kind in dict.fromkeys(wanted) if kind in self.kinds]

    def _has(self, setting: Setting, kind: str, name: str) -> bool:
        """Whether any of those runs had that."""
        return any(value > 0 for value in self.runs.values(setting, kind, name))

    def _down_after(self, candidates: Sequence[int]) -> Step:
        settings = [replace(self.at, down_after_ns=ns) for ns in sorted({*candidates, self.now.down_after_ns})]
        self.runs.make(settings, self._kinds("calm", self.strike), "down-after-milliseconds", (0.14, 0.5))
        stall_s = max(value for one in settings for value in self.runs.values(one, "calm", "longest_stall_s"))
        calm = [
            one for one in settings
            if one.down_after_ns >= MARGIN * stall_s * S and not self._has(one, "calm", "sdowns")
            and not self._has(one, "calm", "false_failovers") and not self._has(one, self.strike, "false_failovers")
        ]  # fmt: skip
        seen = f"the master's longest stall in {self.runs.repeats} calm runs of each lasts {say_ns(round(stall_s * S))}"
        above = f"this is {MARGIN:g} times that or more"
        if not stall_s:
            seen = f"the scenario's master has no stall in {self.runs.repeats} calm runs of each"
            above = "but a real one's forks, slow commands and disks are not in the scenario"
        if not calm:
            return self._stays(AXES[0], settings, f"{seen}; no value that was tried is safe from false failovers", is_safe=False)
        best = min(calm, key=lambda one: one.down_after_ns)
        if best == self.at:
            is_least = best.down_after_ns == min(one.down_after_ns for one in settings)
            return self._stays(AXES[0], settings, f"{seen}; nothing shorter {'was tried' if is_least else 'is safe'}")
        if self.at in calm and not self.runs.is_less(best, self.at, self.strike, "unavailable_s"):
            return self._stays(AXES[0], settings, f"{seen}; no outage is shorter with less")
        return self._takes(AXES[0], settings, best, f"{seen}; {above}, and no Sentinel says +sdown")

    def _quorum(self, quorums: Iterable[int]) -> Step:
        settings = [replace(self.at, quorum=quorum) for quorum in quorums]
        self.runs.make(settings, self._kinds("calm", self.strike, "blind", "short"), "quorum", (0.5, 0.74))
        able = [one for one in settings if all(value > 0 for kind in self._kinds("short", self.strike)
                                               for value in self.runs.values(one, kind, "failovers"))]  # fmt: skip
        calm = self._kinds("calm", "blind", "short", self.strike)
        least = 1 if "blind" in self.kinds else len(settings) // 2 + 1
        sober = [one for one in able if one.quorum >= least and not any(self._has(one, kind, "false_failovers") for kind in calm)]
        dead, blind = "short" in self.kinds, "blind" in self.kinds
        if not sober:
            why = "with none that replaces a struck master is a healthy one safe" + (
                " from a Sentinel that cannot see it" if blind else "")  # fmt: skip
            if not able:
                why = f"with none is a struck master always replaced{' while a Sentinel is dead' if dead else ''}"
            return self._stays(AXES[1], settings, f"{why}; more Sentinels, an odd number, on hosts of their own", is_safe=False)
        best = min(sober, key=lambda one: self.runs.rank(one, self.strike, "unavailable_s"))
        if self.at in sober and not self.runs.is_less(best, self.at, self.strike, "unavailable_s"):
            return self._stays(AXES[1], settings, "nothing that is as safe is faster")
        parts = [*(["a dead Sentinel"] if dead else []), *(["one that cannot see the master"] if blind else [])]
        return self._takes(AXES[1], settings, best, f"it survives {' and '.join(parts)}" if parts else "it is a majority")

    def _min_replicas(self) -> Step:
        lags = sorted({*MIN_LAGS_S, *([self.now.min_lag_s] if self.now.min_lag_s else [])}, reverse=True)
        bounded = [replace(self.at, min_replicas=1, min_lag_s=lag) for lag in lags]
        settings = list(dict.fromkeys([replace(self.at, min_replicas=0, min_lag_s=self.now.min_lag_s), self.at, *bounded]))
        self.runs.make(settings, self._kinds("calm", self.strike, self.cut), "min-replicas", (0.74, 0.9))
        writable = [one for one in settings if not self._has(one, "calm", "refused_writes") and self._is_writable(one, settings)]
        if not writable:
            return self._stays(AXES[2], settings, "writes are refused while all is well", is_safe=False)
        best = min(writable, key=lambda one: self.runs.rank(one, self.cut, "lost_acked_writes"))
        if self.at in writable and not self.runs.is_less(best, self.at, self.cut, "lost_acked_writes"):
            return self._stays(AXES[2], settings, "nothing that takes writes while all is well and after a strike loses fewer")
        if self.at not in writable:
            return self._takes(AXES[2], settings, best, "with that of now nobody takes writes after a strike or in calm")
        return self._takes(AXES[2], settings, best, "a master that is cut off stops to take writes")

    def _is_writable(self, setting: Setting, others: Sequence[Setting]) -> bool:
        """Whether somebody takes writes again after each strike after which somebody does with any of the others."""
        then = self.runs.values(setting, self.strike, "writable_s")
        every = (self.runs.values(one, self.strike, "writable_s") for one in others)
        best = [min(values) for values in zip(*every, strict=True)]
        return all(after < NEVER for after, least in zip(then, best, strict=True) if least < NEVER)

    def _parallel_syncs(self, counts: Sequence[int]) -> Step:
        settings = list(dict.fromkeys([self.at, *(replace(self.at, parallel_syncs=count) for count in counts)]))
        self.runs.make(settings, self._kinds(self.strike), "parallel-syncs", (0.9, 0.95))
        fair = [one for one in settings if not self.runs.is_less(self.at, one, self.strike, "reads_unavailable_s")]
        best = min(fair, key=lambda one: self.runs.rank(one, self.strike, "redundant_s"))
        if best == self.at or not self.runs.is_less(best, self.at, self.strike, "redundant_s"):
            return self._stays(AXES[3], settings, "the replicas do not follow sooner with another one")
        return self._takes(AXES[3], settings, best, "the replicas follow the new master sooner, and reads fare no worse")

    def _stays(self, axis: str, settings: Sequence[Setting], why: str, *, is_safe: bool = True) -> Step:
        return Step(axis, tuple(settings), self.at, why, is_safe)

    def _takes(self, axis: str, settings: Sequence[Setting], best: Setting, why: str) -> Step:
        self.at = best
        return Step(axis, tuple(settings), best, why)
