"""The rule of three sigma: whether counts are what a probability leads to expect, on CPython and MicroPython."""

import math

SIGMAS = 3
_ONE_TAIL = 0.00135  # of a normal distribution, beyond three sigma


def tails(hits, n, probability):
    """P(at most `hits`) and P(at least `hits`) of `n` trials, exact; for a small n * probability."""
    term = math.exp(n * math.log(1 - probability))
    below = 0.0
    for k in range(hits):
        below += term
        term *= (n - k) * probability / ((k + 1) * (1 - probability))
    return below + term, 1 - below


def deviation(hits, n, probability):
    """By how many sigmas `hits` of `n` trials are off `probability`, each; at most 3.0 means it is to be expected.

    Where the normal approximation does not hold, it is 0.0 or, beyond the tail that three sigma cut off, 9.9.
    """
    if probability in (0, 1):
        return 0.0 if hits == n * probability else 9.9
    variance = n * probability * (1 - probability)
    if variance > 25:
        return abs(hits - n * probability) / math.sqrt(variance)
    if probability > 0.5:
        hits, probability = n - hits, 1 - probability
    return 0.0 if min(tails(hits, n, probability)) >= _ONE_TAIL else 9.9


def difference(hits, n, other_hits, other_n):
    """By how many sigmas two counts are apart that are drawn from one unknown probability; as `deviation`."""
    share = (hits + other_hits) / (n + other_n)
    if share > 0.5:
        hits, other_hits, share = n - hits, other_n - other_hits, 1 - share
    if hits + other_hits < 50:  # which of the rare ones are in the first count is a draw, too
        return deviation(hits, hits + other_hits, n / (n + other_n)) if hits + other_hits else 0.0
    return abs(hits / n - other_hits / other_n) / math.sqrt(share * (1 - share) * (1 / n + 1 / other_n))
