"""BLAS takes one thread inside, and afterwards as many as before."""

from threading import Barrier, Thread

import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import threadpool_info, threadpool_limits

import occlp as oc
from occlp.blas import SMALL, on_one_thread, one_thread


def threads():
    """What the libraries of BLAS that are loaded take."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def several():
    """Two threads, where the machine has them."""
    with threadpool_limits(2, user_api="blas"):
        yield


def test_inside_is_one_and_outside_what_was_before():
    before = threads()
    with one_thread:
        assert threads() == {1}
        with one_thread:
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == before


def test_an_error_gives_the_threads_back():
    before = threads()
    with pytest.raises(ZeroDivisionError), one_thread:
        raise ZeroDivisionError
    assert threads() == before


def test_the_last_who_leaves_gives_the_threads_back():
    before, inside, seen = threads(), Barrier(2), []

    def stay(first):
        with one_thread:
            inside.wait()
            if not first:
                other.join()
                seen.append(threads())

    other = Thread(target=stay, args=(True,))
    last = Thread(target=stay, args=(False,))
    other.start()
    last.start()
    last.join()
    assert seen == [{1}]
    assert threads() == before


@pytest.mark.parametrize("n_states", [SMALL // 4, SMALL])
def test_questions_whose_matrices_are_small_leave_it_alone(n_states):
    mdp = oc.instances.get("garnet", n_states=n_states, n_actions=2, branching=2, seed=0)
    before, found = threads(), on_one_thread(lambda problem: threads())(oc.Problem(mdp))
    assert found == ({1} if mdp.n_pairs > SMALL else before)


def test_a_run_is_on_one_thread():
    seen = []

    class Looking(oc.ValueIteration):
        def iterate(self, problem, **settings):
            seen.append(threads())
            yield from super().iterate(problem, **settings)

    oc.solve(oc.instances.get("garnet", n_states=SMALL, n_actions=2, branching=2, seed=0), Looking())
    assert seen == [{1}]
