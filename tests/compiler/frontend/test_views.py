"""Views against NumPy: the same Reshapes and Transposes of an index array, or a refusal where data would move."""

import numpy as np

from systolith.compiler.frontend.values.views import Atom, View, merge, split, strided
from tests.support.seeds import seeds


def indices(view: View) -> np.ndarray:
    """The flat index of each element of the view."""
    result = np.zeros((), np.int64)
    for axis in view.axes:
        line = np.zeros(1, np.int64)
        for atom in axis:
            line = (line[:, None] + np.arange(atom.size) * atom.stride).reshape(-1)
        result = np.add.outer(result, line)
    return result


@seeds(200)
def test_random_views(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(1, 5)))
    base = np.arange(np.prod(shape)).reshape(shape)
    view, array = strided(shape), base
    for _ in range(4):
        if rng.random() < 0.5:
            order = rng.permutation(array.ndim)
            view, array = view.transpose(order), array.transpose(order)
        else:
            primes = [p for n in array.shape for p in ([2, 2] if n == 4 else [2, 3] if n == 6 else [n])]
            cuts = sorted(rng.integers(0, len(primes) + 1, rng.integers(1, 4)))
            sizes = [int(np.prod(part)) for part in np.split(np.array(primes, int), cuts)]
            reshaped = view.reshape(sizes)
            if reshaped is None:  # Then NumPy cannot do it without a copy, either.
                assert not np.shares_memory(array.reshape(sizes), base)
                break
            view, array = reshaped, array.reshape(sizes)
        assert view.shape == array.shape
        np.testing.assert_array_equal(indices(view), array)


def test_wrong_number_of_elements():
    assert strided((2, 3)).reshape((5,)) is None
    assert strided((2, 3)).reshape((2, 3, 2)) is None


def test_merge():
    assert merge([Atom(2, 12), Atom(1, 99), Atom(3, 4), Atom(4, 1)]) == (Atom(24, 1),)
    assert merge([Atom(3, 1), Atom(2, 3)]) == (Atom(3, 1), Atom(2, 3))


def test_split():
    parts = [Atom(2, 12), Atom(3, 4), Atom(4, 1)]
    assert split((Atom(24, 1),), parts) == (Atom(2, 12), Atom(3, 4), Atom(4, 1))
    assert split((Atom(8, 3),), parts) is None
    assert split((Atom(2, 24),), parts) is None
