"""How sure a share, a mean, a median and one value more are: against tables, and against what they promise."""

import doctest
import math

import numpy as np
import pytest

from redsim.rng import generator
from redsim.run import confidence
from redsim.run.confidence import band, draws_needed, mean_between, median_between, one_more_below

SIGMAS = 4.5  # one false alarm in 150,000


def test_the_examples_say_what_is_computed():
    assert doctest.testmod(confidence).failed == 0


def test_the_band_is_clopper_and_pearsons():
    """1 - (alpha/2)^(1/n) for no hit; 5 of 100 and 1 of 10 as tables of the interval have them; the count's own symmetry."""
    assert band(0, 1000) == (0.0, pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-9))
    assert band(5, 100) == (pytest.approx(0.01643, abs=5e-6), pytest.approx(0.11283, abs=5e-6))
    assert band(1, 10) == (pytest.approx(0.00253, abs=5e-6), pytest.approx(0.44502, abs=5e-6))
    low, high = band(123, 5000)
    assert band(5000 - 123, 5000) == (pytest.approx(1 - high), pytest.approx(1 - low))
    assert band(7, 7)[1] == 1.0
    assert band(0, draws_needed(0.999))[1] <= 0.001 < band(0, draws_needed(0.999) - 1)[1]


def test_the_upper_end_is_exceeded_by_the_truth_once_in_forty_at_most():
    """Its promise, 97.5 %: 3,000 repeats of 500 draws at 1 %; 0.025 and 4.5 standard deviations."""
    hits = generator(1, "hits").binomial(500, 0.01, 3000)
    missed = np.mean([band(int(one), 500)[1] < 0.01 for one in hits])
    assert missed <= 0.025 + SIGMAS * math.sqrt(0.025 * 0.975 / 3000)


def test_the_mean_lies_where_students_t_says():
    """t for 2 degrees of freedom, two-sided 95 %: 4.303; of normal values it holds in 95 % of 2,000 repeats of 8."""
    low, high = mean_between([10.0, 11.0, 12.0])
    assert (low, high) == (pytest.approx(11 - 4.303 / math.sqrt(3), abs=1e-3), pytest.approx(11 + 4.303 / math.sqrt(3), abs=1e-3))
    assert all(math.isnan(end) for end in mean_between([1.0]))
    drawn = generator(1, "means").normal(5.0, 2.0, (2000, 8))
    held = np.mean([low < 5.0 < high for low, high in map(mean_between, drawn.tolist())])
    assert abs(held - 0.95) <= SIGMAS * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(("n", "k"), [(6, 0), (9, 1), (20, 5), (50, 17), (100, 39)])
def test_the_median_lies_between_the_values_that_tables_of_order_statistics_give(n, k):
    """Ranks k + 1 and n - k of the sign test's 95 % interval: 1 and 6, 2 and 8, 6 and 15, 18 and 33, 40 and 61."""
    assert median_between(list(range(1, n + 1))) == (k + 1, n - k)


def test_the_median_holds_its_promise_whatever_the_law():
    """95 % at least, of 2,000 repeats of 25 values with a long tail; five values cannot tell."""
    drawn = generator(1, "medians").lognormal(0.0, 2.0, (2000, 25))
    held = np.mean([low <= 1.0 <= high for low, high in map(median_between, drawn.tolist())])
    assert held >= 0.95 - SIGMAS * math.sqrt(0.95 * 0.05 / 2000)
    assert all(math.isnan(end) for end in median_between([1, 2, 3, 4, 5]))


def test_one_value_more_lies_above_the_upper_end_once_in_twenty():
    """mean + t s sqrt(1 + 1/n), t for 2 degrees of freedom, one-sided: 2.920; 4,000 normal values: 3 sigmas are 1 %."""
    assert one_more_below([10.0, 11.0, 12.0]) == pytest.approx(11 + 2.920 * math.sqrt(4 / 3), abs=1e-3)
    drawn = generator(1, "more").normal(size=(4000, 6))
    above = np.mean([row[5] > one_more_below(list(row[:5])) for row in drawn])
    assert above == pytest.approx(0.05, abs=0.0104)
