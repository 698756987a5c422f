"""Which keys are asked for: draws of a known popularity, and what the estimator makes of their counts."""

import numpy as np
import pytest

from redsim.lab.popularity import fit, fit_lfu, harmonic
from redsim.rng import generator


def drawn(exponent: float, keys: int, accesses: int, seed: int) -> np.ndarray:
    share = np.arange(1, keys + 1, dtype=np.float64) ** -exponent
    return generator(seed, "test.observe.zipf").multinomial(accesses, share / share.sum())


@pytest.mark.parametrize("exponent", [0.0, 0.8, 0.99, 1.2])
@pytest.mark.parametrize(("keys", "accesses"), [(1_000, 5_000), (50_000, 20_000)])
def test_the_estimator_recovers_a_zipf_exponent_within_its_error(exponent: float, keys: int, accesses: int) -> None:
    """Draws of a known exponent: within 1.5 times the stated error (two standard errors) each, three seeds; fixed seeds."""
    for seed in (1, 2, 3):
        counts = drawn(exponent, keys, accesses, seed)
        found = fit(counts[counts > 0], keys)
        assert abs(found.exponent - exponent) <= 1.5 * found.error + 1e-9, found
        assert found.kind == ("uniform" if exponent == 0.0 else "zipf")


def test_a_hot_set_is_told_from_a_zipf() -> None:
    """A fifth of the keys gets four fifths of the traffic."""
    hot = np.r_[np.full(2_000, 0.8 / 2_000), np.full(8_000, 0.2 / 8_000)]
    counts = generator(1, "test.observe.hotset").multinomial(20_000, hot / hot.sum())
    found = fit(counts[counts > 0], 10_000)
    assert found.kind == "hotset"
    assert found.hot_keys == pytest.approx(0.2, abs=0.02)
    assert found.hot_traffic == pytest.approx(0.8, abs=0.02)


def test_few_accesses_say_nothing() -> None:
    """Below ACCESSES_MIN uniform is assumed, and said to be."""
    found = fit(np.array([5, 3, 1]), 100)
    assert found.kind == "uniform"
    assert "too few" in found.said


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.7])
def test_the_harmonic_sum_is_the_sum(exponent: float) -> None:
    """Against the terms added one by one."""
    exact = float((np.arange(1, 200_001, dtype=np.float64) ** -exponent).sum())
    assert harmonic(exponent, 200_000) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("exponent", [0.5, 0.99, 1.2])
def test_not_knowing_the_number_of_keys_is_in_the_error(exponent: float) -> None:
    """A capture alone does not tell how many keys there are: the estimate is further off, and the stated error larger."""
    counts = drawn(exponent, 10_000, 20_000, 4)
    seen = counts[counts > 0]
    blind, told = fit(seen, None), fit(seen, 10_000)
    assert blind.error >= told.error
    assert abs(blind.exponent - exponent) <= 1.5 * blind.error


@pytest.mark.parametrize("exponent", [0.6, 0.99, 1.3])
def test_lfu_counters_tell_the_exponent_roughly(exponent: float) -> None:
    """Counters grown by Redis' rule (a step with probability 1 in 1 + 10 (counter - 5)), no decay, a tenth of the keys."""
    luck = generator(7, "test.observe.lfu")
    counts = drawn(exponent, 5_000, 400_000, 8)[luck.permutation(5_000)[:500]]
    counters = []
    for hits in counts:
        counter = 5
        left = int(hits)
        while left > 0 and counter < 255:
            waited = int(luck.geometric(1 / (1 + 10 * (counter - 5))))
            counter += waited <= left
            left -= waited
        counters.append(counter)
    found = fit_lfu(np.array(counters), 10, 5_000)
    assert abs(found.exponent - exponent) <= found.error


def test_lfu_counters_that_are_all_alike_say_nothing() -> None:
    """Fresh keys all have 5."""
    assert fit_lfu(np.full(500, 5), 10, 500).kind == "uniform"
