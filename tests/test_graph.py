"""Graph structure against its definitions: all subsets of states, all deterministic policies, all walks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers import dense_transitions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import csgraph
from strategies import mdps

import occlp as oc
from occlp import graph as g
from occlp.graph import classification


@st.composite
def masked_graphs(draw, max_states=4, max_actions=3):
    """(graph, mask of pairs): a small model, and the pairs that policies may use; often all of them."""
    graph = g.graph_of(draw(mdps(max_states=max_states, max_actions=max_actions, max_costs=0)))
    if draw(st.booleans()):
        return graph, np.ones(graph.n_pairs, dtype=bool)
    return graph, np.array(draw(st.lists(st.booleans(), min_size=graph.n_pairs, max_size=graph.n_pairs)), dtype=bool)


def successors(graph, k):
    return set(graph.indices[graph.indptr[k] : graph.indptr[k + 1]].tolist())


def options(graph, keep):
    """The kept pairs of each state."""
    return [[k for k in range(graph.n_pairs) if keep[k] and graph.pair_states[k] == s] for s in range(graph.n_states)]


def closure(graph, pairs):
    """Bool [S, S]: which states lead to which in one step or more along the pairs given."""
    reach = np.zeros((graph.n_states, graph.n_states), dtype=bool)
    for k in pairs:
        reach[graph.pair_states[k], list(successors(graph, k))] = True
    for _ in range(graph.n_states):
        reach |= reach @ reach
    return reach


def policies(graph, keep):
    """All deterministic policies, as lists of pairs; states without a pair choose none."""
    for choice in itertools.product(*(found or [None] for found in options(graph, keep))):
        yield [k for k in choice if k is not None]


def is_end_component(graph, keep, states):
    """Whether a policy can stay in these states for ever and visit all of them."""
    inside = [k for k in np.flatnonzero(keep) if graph.pair_states[k] in states and successors(graph, k) <= states]
    reach = closure(graph, inside)
    return all(reach[s, t] for s in states for t in states)


def maximal(graph, keep):
    """The maximal end components by looking at all sets of states, largest first."""
    found = []
    for size in range(graph.n_states, 0, -1):
        for states in map(set, itertools.combinations(range(graph.n_states), size)):
            if not any(states <= other for other in found) and is_end_component(graph, keep, states):
                found.append(states)
    return sorted(found, key=min)


def classes(labels):
    return [set(np.flatnonzero(labels == i).tolist()) for i in range(max(labels, default=-1) + 1)]


def probability_signs(graph, keep, goal):
    """Per policy: (positive, certain) masks [S] of reaching the goal, the goal absorbing."""
    for policy in policies(graph, keep):
        moving = [k for k in policy if graph.pair_states[k] not in goal]
        reach = closure(graph, moving) | np.eye(graph.n_states, dtype=bool)
        positive = reach[:, sorted(goal)].any(axis=1)
        yield positive, ~(reach & ~positive).any(axis=1)


class TestComponents:
    @given(masked_graphs(max_states=6))
    @settings(max_examples=60)
    def test_strong_components(self, drawn):
        graph, keep = drawn
        count, labels = g.strong_components(graph, keep)
        reach = closure(graph, np.flatnonzero(keep)) | np.eye(graph.n_states, dtype=bool)
        assert ((labels[:, None] == labels[None, :]) == (reach & reach.T)).all()
        assert count == labels.max() + 1
        assert [min(c) for c in classes(labels)] == sorted(min(c) for c in classes(labels))

    @given(masked_graphs(max_states=6))
    @settings(max_examples=150)
    def test_maximal_end_components(self, drawn):
        graph, keep = drawn
        found = g.maximal_end_components(graph, keep)
        expected = maximal(graph, keep)
        assert classes(found.component) == expected
        assert found.count == len(expected)
        inside = [
            k
            for k in np.flatnonzero(keep)
            if any(graph.pair_states[k] in states and successors(graph, k) <= states for states in expected)
        ]
        assert np.flatnonzero(found.pairs).tolist() == inside

    @given(masked_graphs(max_states=6))
    @settings(max_examples=100)
    def test_closed_classes_and_their_periods(self, drawn):
        graph, keep = drawn
        step = np.zeros((graph.n_states, graph.n_states), dtype=bool)
        for k in np.flatnonzero(keep):
            step[graph.pair_states[k], list(successors(graph, k))] = True
        reach = closure(graph, np.flatnonzero(keep))
        recurrent = [bool(reach[s, s] and (reach[reach[s], s]).all()) for s in range(graph.n_states)]
        found = g.closed_classes(graph, keep)
        assert (found.label >= 0).tolist() == recurrent
        for i, states in enumerate(classes(found.label)):
            s = min(states)
            assert states == set(np.flatnonzero(reach[s]).tolist())
            walks, lengths = step, []
            for n in range(1, 4 * graph.n_states):
                if walks[s, s]:
                    lengths.append(n)
                walks = walks @ step
            assert found.periods[i] == math.gcd(*lengths)

    def test_pairs_that_may_leave_are_no_part_of_an_end_component(self):
        """Storm issue 24: the set {0, 1} is strongly connected, but from 1 the only action may lead to 2."""
        graph = g.transition_graph([0, 0, 1, 2], [[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]])
        found = g.maximal_end_components(graph)
        assert found.component.tolist() == [0, -1, 1]
        assert found.pairs.tolist() == [True, False, False, True]

    def test_probabilities_of_zero_are_no_edges(self):
        matrix = sparse.csr_array(([1.0, 0.0, 1.0], [0, 1, 1], [0, 2, 3]), shape=(2, 2))
        assert matrix.nnz == 3
        graph = g.transition_graph([0, 1], matrix)
        assert g.strong_components(graph)[0] == 2
        assert g.absorbing_states(graph).all()

    def test_masks_of_the_wrong_length_are_refused(self):
        graph = g.transition_graph([0, 1], np.eye(2))
        with pytest.raises(ValueError, match=r"\[2\], not \[3\]"):
            g.maximal_end_components(graph, [True] * 3)
        with pytest.raises(ValueError, match=r"\[2\], not \[3\]"):
            g.reachable(graph, [True] * 3)

    def test_pairs_that_lead_nowhere_are_refused(self):
        with pytest.raises(ValueError, match="pair 1 leads nowhere"):
            g.transition_graph([0, 1], [[1, 0], [0, 0]])


def textbook(graph, keep):
    """Maximal end components by whole rounds: components, away with the pairs that leave them, and again."""
    alive = keep.copy()
    while True:
        _, labels = csgraph.connected_components(graph.adjacency(alive), connection="strong")
        leaving = np.zeros(graph.n_pairs, dtype=bool)
        leaving[graph.edge_pairs[labels[graph.edge_states] != labels[graph.indices]]] = True
        if not (alive & leaving).any():
            return labels, alive
        alive &= ~leaving


def rows_graph(rows, n_states):
    """The graph of rows (state, successors)."""
    indptr = np.cumsum([0, *(len(row) for _, row in rows)])
    indices = np.concatenate([row for _, row in rows])
    matrix = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(rows), n_states))
    return g.transition_graph([s for s, _ in rows], matrix)


def stairs(n, size=3):
    """n rings one above the other, and a sink.

    Each leads down to the next, and its only way back to the top may slip down one ring; that of the lowest may
    slip into the sink. So the lowest ring is cut off, then the next, and so on: n nested components.
    """
    sink = n * size
    rows = [(sink, [sink])]
    for first in range(0, sink, size):
        rows += [(first + i, [first + (i + 1) % size]) for i in range(size)]
        below = first - size if first else sink
        rows += [(first, [below]), (first, [sink - size, below])]
    return rows_graph(rows, sink + 1)


class TestNestedComponents:
    @given(st.integers(0, 10**9), st.integers(5, 80), st.integers(1, 3), st.integers(1, 3), st.booleans())
    @settings(max_examples=150)
    def test_against_whole_rounds(self, seed, n_states, n_actions, width, far):
        rng = np.random.default_rng(seed)
        rows = []
        for s in range(n_states):
            for _ in range(rng.integers(1, n_actions + 1)):
                near = np.clip(s + rng.integers(-2, 3, size=rng.integers(1, width + 1)), 0, n_states - 1)
                jump = [rng.integers(n_states)] if far and rng.random() < 0.1 else []
                rows.append((s, np.unique(np.concatenate([near, jump])).astype(int)))
        graph = rows_graph(rows, n_states)
        keep = rng.random(len(rows)) < 0.95
        labels, alive = textbook(graph, keep)
        found = g.maximal_end_components(graph, keep)
        assert (found.pairs == alive).all()
        inside = graph.count(alive) > 0
        assert ((found.component >= 0) == inside).all()
        same = found.component[:, None] == found.component
        assert (same == (labels[:, None] == labels))[np.ix_(inside, inside)].all()

    @pytest.mark.parametrize("n", [1, 2, 50])
    def test_stairs(self, n):
        graph = stairs(n)
        labels, alive = textbook(graph, np.ones(graph.n_pairs, dtype=bool))
        found = g.maximal_end_components(graph)
        assert found.count == n + 1 == labels.max() + 1
        assert (found.pairs == alive).all()

    def test_many_pairs_that_slip_at_once(self):
        """Every state of a ring has a way on that may end in the sink: too many to be searched from one by one."""
        n = 70
        ways = [(s, [(s + 1) % n]) for s in range(n)] + [(s, [(s + 1) % n, n]) for s in range(n)]
        found = g.maximal_end_components(rows_graph([*ways, (n, [n])], n + 1))
        assert found.pairs.tolist() == [True] * n + [False] * n + [True]
        assert (found.component == np.append(np.full(n, found.component[0]), found.component[n])).all()
        assert found.count == 2

    @pytest.mark.bad_input(46)
    def test_a_hundred_thousand_states(self):
        """Whole rounds would take 33,000 passes; so deep a corridor would exhaust any recursion."""
        found = g.maximal_end_components(stairs(33_000))
        assert found.count == 33_001
        assert found.component[:6].tolist() == [0, 0, 0, 1, 1, 1]
        n = 100_000
        states = np.arange(n)
        corridor = rows_graph([*zip(states, np.minimum(states + 1, n - 1)[:, None], strict=True), (n - 1, [0])], n)
        assert g.maximal_end_components(corridor).count == 1
        assert g.steps_to(corridor, [n - 1])[0].tolist() == list(range(n - 1, -1, -1))
        assert g.certain_for_all(corridor, [n - 1]).all()
        assert g.maximal_end_components(corridor, np.arange(n + 1) < n).component.max() == 0
        assert g.closed_classes(corridor, np.arange(n + 1) != n - 1).periods.tolist() == [n]


class TestReachability:
    @given(masked_graphs(), st.data())
    @settings(max_examples=200)
    def test_against_all_deterministic_policies(self, drawn, data):
        graph, keep = drawn
        goal = data.draw(st.sets(st.integers(0, graph.n_states - 1), min_size=1, max_size=2))
        signs = list(probability_signs(graph, keep, goal))
        given_as = sorted(goal) if data.draw(st.booleans()) else np.isin(np.arange(graph.n_states), sorted(goal))
        for function, expected in [
            (g.positive_for_some, np.any([positive for positive, _ in signs], axis=0)),
            (g.positive_for_all, np.all([positive for positive, _ in signs], axis=0)),
            (g.certain_for_some, np.any([certain for _, certain in signs], axis=0)),
            (g.certain_for_all, np.all([certain for _, certain in signs], axis=0)),
        ]:
            assert function(graph, given_as, keep).tolist() == expected.tolist(), function.__name__

    @given(masked_graphs(max_states=6), st.data())
    @settings(max_examples=100)
    def test_a_proper_choice_is_certain_to_arrive(self, drawn, data):
        graph, keep = drawn
        goal = data.draw(st.sets(st.integers(0, graph.n_states - 1), min_size=1, max_size=2))
        certain = g.certain_for_some(graph, sorted(goal), keep)
        choice = g.proper_choice(graph, sorted(goal), keep)
        assert (choice >= 0).tolist() == [bool(certain[s]) and s not in goal for s in range(graph.n_states)]
        chosen = np.zeros(graph.n_pairs, dtype=bool)
        chosen[choice[choice >= 0]] = True
        assert (keep | ~chosen).all()
        ((_, arrives),) = probability_signs(graph, chosen, goal)
        assert (arrives | ~certain).all()

    @given(masked_graphs(max_states=6), st.data())
    @settings(max_examples=60)
    def test_steps(self, drawn, data):
        graph, keep = drawn
        start = data.draw(st.integers(0, graph.n_states - 1))
        layers = [{start}]
        while True:
            after = {
                t for k in np.flatnonzero(keep) if graph.pair_states[k] in layers[-1] for t in successors(graph, k)
            }
            after -= set().union(*layers)
            if not after:
                break
            layers.append(after)
        expected = {s: i for i, layer in enumerate(layers) for s in layer}
        level = g.steps_from(graph, [start], keep)
        assert {s: int(level[s]) for s in np.flatnonzero(level >= 0)} == expected
        assert (g.reachable(graph, [start], keep) == (level >= 0)).all()
        for s in range(graph.n_states):
            back, choice = g.steps_to(graph, [s], keep)
            assert back[start] == level[s]
            if choice[start] >= 0:
                assert min(back[list(successors(graph, choice[start]))]) <= back[start] - 1

    def test_a_policy_can_circle_in_reach_of_the_goal(self):
        """Storm issue 940: both actions have value 1/2 in state 1, but circling never arrives."""
        graph = g.transition_graph([0, 1, 1, 2], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
        assert g.certain_for_some(graph, [2]).all()
        assert g.certain_for_all(graph, [2]).tolist() == [False, False, True]
        assert g.proper_choice(graph, [2]).tolist() == [0, 2, -1]


class TestCollapse:
    @given(masked_graphs(max_states=6))
    @settings(max_examples=100)
    def test_nodes_and_pairs(self, drawn):
        graph, keep = drawn
        components = g.maximal_end_components(graph, keep)
        quotient = g.collapse(graph, components)
        together = (quotient.nodes[:, None] == quotient.nodes[None, :]) & ~np.eye(graph.n_states, dtype=bool)
        same = (components.component[:, None] == components.component) & (components.component >= 0)[:, None]
        assert (together == (same & ~np.eye(graph.n_states, dtype=bool))).all()
        assert sorted(set(quotient.nodes.tolist())) == list(range(quotient.graph.n_states))
        assert quotient.pairs.tolist() == np.flatnonzero(~components.pairs).tolist()
        for position, k in enumerate(quotient.pairs):
            assert quotient.graph.pair_states[position] == quotient.nodes[graph.pair_states[k]]
            assert successors(quotient.graph, position) == {int(quotient.nodes[t]) for t in successors(graph, k)}
        left = np.zeros(graph.n_pairs, dtype=bool)
        left[quotient.pairs] = keep[quotient.pairs]
        assert g.maximal_end_components(quotient.graph, left[quotient.pairs]).count == 0

    @given(mdps(max_states=5, max_costs=0))
    @settings(max_examples=60)
    def test_probabilities_add(self, mdp):
        graph = g.graph_of(mdp)
        quotient = g.collapse(graph, g.maximal_end_components(graph))
        onto = np.eye(quotient.graph.n_states)[quotient.nodes]
        expected = dense_transitions(mdp)[quotient.pairs] @ onto
        found = quotient.transitions(mdp.transitions)
        np.testing.assert_allclose(found.toarray(), expected, rtol=0, atol=1e-15)
        rebuilt = g.transition_graph(quotient.graph.pair_states, found)
        for k in range(rebuilt.n_pairs):
            assert successors(rebuilt, k) == successors(quotient.graph, k)

    @given(masked_graphs(max_states=6), st.data())
    @settings(max_examples=100)
    def test_lifting_leads_to_the_exit(self, drawn, data):
        graph, _ = drawn
        components = g.maximal_end_components(graph)
        quotient = g.collapse(graph, components)
        choice = [
            data.draw(st.sampled_from([-1, *found]))
            for found in options(quotient.graph, np.ones(quotient.graph.n_pairs, dtype=bool))
        ]
        lifted = quotient.lift(choice)
        for s in range(graph.n_states):
            exit_pair = choice[quotient.nodes[s]]
            inside = components.component[s] >= 0
            assert (lifted[s] >= 0) == (exit_pair >= 0 or inside)
            if lifted[s] >= 0:
                assert graph.pair_states[lifted[s]] == s
            if exit_pair < 0:
                assert lifted[s] < 0 or components.pairs[lifted[s]]
                continue
            last = int(quotient.pairs[exit_pair])
            assert lifted[graph.pair_states[last]] == last
            taken = np.zeros(graph.n_pairs, dtype=bool)
            taken[lifted[lifted >= 0]] = True
            assert g.certain_for_all(graph, [graph.pair_states[last]], taken)[s]


class TestClassification:
    @given(mdps(max_states=4, max_costs=0))
    @settings(max_examples=200)
    def test_against_all_deterministic_policies(self, mdp):
        graph = g.graph_of(mdp)
        every = np.ones(graph.n_pairs, dtype=bool)
        found = g.classify(graph)
        reach = closure(graph, range(graph.n_pairs)) | np.eye(graph.n_states, dtype=bool)
        ever_recurrent = np.zeros(graph.n_states, dtype=bool)
        unichain = recurrent = True
        for policy in policies(graph, every):
            steps = closure(graph, policy)
            here = np.array([steps[s, s] and steps[steps[s], s].all() for s in range(graph.n_states)])
            ever_recurrent |= here
            unichain &= bool(steps[np.ix_(here, here)].all())
            recurrent &= bool(here.all() and steps.all())
        states = np.flatnonzero(ever_recurrent)
        assert found.communicating == reach.all()
        assert found.weakly_communicating == reach[np.ix_(states, states)].all()
        assert found.unichain in (unichain, None)
        assert found.recurrent == recurrent
        if recurrent:
            assert found.name == "recurrent"

    @pytest.mark.parametrize(
        ("rows", "name"),
        [
            ([(0, [0, 1]), (1, [1, 0])], "recurrent"),
            ([(0, [0.5, 0.5]), (1, [0, 1])], "unichain"),
            ([(0, [1, 0]), (0, [0, 1]), (1, [0, 1]), (1, [1, 0])], "communicating"),
            ([(0, [1, 0, 0]), (0, [0, 1, 0]), (1, [0, 1, 0]), (1, [1, 0, 0]), (2, [1, 0, 0])], "weakly communicating"),
            ([(0, [1, 0]), (1, [0, 1])], "multichain"),
        ],
    )
    def test_the_classes_of_puterman(self, rows, name):
        graph = g.transition_graph([s for s, _ in rows], [row for _, row in rows])
        assert g.classify(graph).name == name

    def test_it_is_honest_about_what_it_does_not_know(self):
        """Three states, each avoidable, and yet any two end components meet: {0, 1}, {1, 2}, {2, 0}."""
        rows = [(s, np.eye(3)[t]) for s in range(3) for t in range(3) if s != t]
        found = g.classify(g.transition_graph([s for s, _ in rows], [row for _, row in rows]))
        assert found.unichain is None
        assert found.recurrent is False
        assert found.name == "communicating"

    def test_it_says_so_where_not_every_state_was_tried(self, monkeypatch):
        monkeypatch.setattr(classification, "LEAST_TRIES", 1)
        monkeypatch.setattr(classification, "EDGE_BUDGET", 1)
        found = g.classify(g.transition_graph(range(3), np.roll(np.eye(3), 1, axis=1)))
        assert (found.unichain, found.recurrent, found.name) == (True, None, "unichain")

    def test_two_places_to_stay_on_either_side_of_a_hub(self):
        rows = [(0, [1, 0, 0]), (0, [0, 1, 0]), (1, [1, 0, 0]), (1, [0, 0, 1]), (2, [0, 0, 1]), (2, [0, 1, 0])]
        found = g.classify(g.transition_graph([s for s, _ in rows], [row for _, row in rows]))
        assert (found.unichain, found.name) == (False, "communicating")


class TestStructure:
    def grid(self):
        """Two rooms, a one-way door, a trap; room 'a' can be left, 'b' not."""
        return oc.MDP.from_pairs(
            ["a1", "a1", "a2", "b1", "b2", "b2", "trap", "lost"],
            ["stay", "go", "go", "go", "go", "fall", "stay", "go"],
            [
                [1, 0, 0, 0, 0, 0],
                [0, 1, 0, 0, 0, 0],
                [0.5, 0, 0.5, 0, 0, 0],
                [0, 0, 0, 1, 0, 0],
                [0, 0, 1, 0, 0, 0],
                [0, 0, 0, 0, 1, 0],
                [0, 0, 0, 0, 1, 0],
                [1, 0, 0, 0, 0, 0],
            ],
            [0] * 8,
            initial="a1",
            states=["a1", "a2", "b1", "b2", "trap", "lost"],
            actions=["stay", "go", "fall"],
        )

    def test_labels(self):
        found = oc.structure(self.grid(), goal=["b1"])
        assert found.strongly_connected_components == (("a1", "a2"), ("b1", "b2"), ("trap",), ("lost",))
        assert found.maximal_end_components == (
            oc.EndComponent(("a1",), (("a1", "stay"),), closed=False),
            oc.EndComponent(("b1", "b2"), (("b1", "go"), ("b2", "go")), closed=False),
            oc.EndComponent(("trap",), (("trap", "stay"),), closed=True),
        )
        assert found.n_strongly_connected_components == 4
        assert found.n_maximal_end_components == 3
        assert found.absorbing_states == ("trap",)
        assert found.unreachable_states == ("lost",)
        assert found.transient_states == ("a2", "lost")
        assert found.dead_ends == ("trap",)
        assert found.classification == "multichain"
        goal = found.goal
        assert goal.certain_for_some.tolist() == [True, True, True, True, False, True]
        assert goal.certain_for_all.tolist() == [False, False, True, False, False, False]
        assert goal.positive_for_all.tolist() == [False, True, True, False, False, False]

    def test_a_goal_has_to_be_named(self):
        with pytest.raises(oc.InvalidProblem, match="goal="):
            _ = oc.structure(self.grid()).dead_ends
        with pytest.raises(oc.InvalidProblem, match="names no state"):
            oc.structure(self.grid(), goal=[])
        with pytest.raises(oc.InvalidProblem, match="no state 'b3'"):
            oc.structure(self.grid(), goal="b3")

    def test_recurrent_classes_of_a_policy(self):
        mdp = self.grid()
        falling = oc.Policy.deterministic(mdp, ["go", "go", "go", "fall", "stay", "go"])
        assert oc.recurrent_classes(mdp, falling) == (oc.RecurrentClass(("trap",), 1),)
        pacing = oc.Policy.deterministic(mdp, ["stay", "go", "go", "go", "stay", "go"])
        assert oc.recurrent_classes(mdp, pacing) == (
            oc.RecurrentClass(("a1",), 1),
            oc.RecurrentClass(("b1", "b2"), 2),
            oc.RecurrentClass(("trap",), 1),
        )
        with pytest.raises(oc.InvalidProblem, match="belongs to a model"):
            oc.recurrent_classes(mdp, oc.Policy.uniform(oc.instances.get("howard-taxicab")))

    def test_arrays_are_read_only(self):
        found = oc.structure(self.grid(), goal="trap")
        arrays = [found.component, found.end_component, found.end_component_pairs, found.reachable, found.absorbing]
        arrays += list(vars(found.goal).values())
        assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("n_actions", [1, 255, 256, 300])
def test_pairs_that_lead_the_same_way_are_one_edge_however_many(n_actions):
    rows = np.repeat(np.eye(2)[::-1], n_actions, axis=0)
    graph = g.transition_graph(np.repeat([0, 1], n_actions), sparse.csr_array(rows))
    union = graph.adjacency(np.ones(2 * n_actions, dtype=bool)).toarray()
    np.testing.assert_array_equal(union, [[0, 1], [1, 0]])
