"""Every parametrization with every estimator and every update, on one small model: progress, or the reason why not."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem

P, E, U = oc.parametrizations, oc.estimators, oc.updates
RNG = np.random.default_rng(3)
MDP = oc.MDP.from_arrays(RNG.dirichlet(np.ones(2), (2, 3)), RNG.random((2, 3)), discount=0.6, initial=[0.7, 0.3])
UNIFORM = oc.Policy.uniform(MDP)
BEST = oc.solve(MDP).objective
DATA = oc.Dataset.from_rollouts(oc.rollouts(MDP, UNIFORM, n_trajectories=4000, horizon=6, rng=0), UNIFORM)
BATCH = {"trajectories": 400, "horizon": 8}


def network_logits(theta):
    return np.tanh(theta[:4].reshape(2, 2)) @ theta[4:].reshape(2, 3)


def network_vjp(theta, weights):
    hidden, second = np.tanh(theta[:4].reshape(2, 2)), theta[4:].reshape(2, 3)
    return np.concatenate([((weights @ second.T) * (1 - hidden**2)).ravel(), (hidden.T @ weights).ravel()])


FAMILIES = {
    "Softmax": P.Softmax(),
    "LogLinear": P.LogLinear(RNG.normal(size=(2, 3, 3))),
    "Gaussian": P.Gaussian([-1.0, 0.0, 1.0], np.eye(2)),
    "Gaussian, learnt": P.Gaussian([-1.0, 0.0, 1.0], np.eye(2), learn_sigma=True),
    "Direct": P.Direct(),
    "Network": P.Network(network_logits, network_vjp, RNG.normal(size=10)),
}
ESTIMATORS = {
    "exact": E.Exact(),
    "total": E.MonteCarlo(returns="total", baseline="values", **BATCH),
    "to go": E.MonteCarlo(**BATCH),
    "to go, values": E.MonteCarlo(baseline="values", bootstrap=True, **BATCH),
    "to go, average": E.MonteCarlo(baseline="average", **BATCH),
    "to go, dropped": E.MonteCarlo(baseline="average", discounting="drop", **BATCH),
    "geometric": E.MonteCarlo(baseline="average", trajectories=800, horizon="geometric"),
    "TD": E.TemporalDifference(critic="values", **BATCH),
    "TD, learnt": E.TemporalDifference(**BATCH),
    "GAE": E.GAE(lam=0.5, **BATCH),
    "ratio": E.OffPolicy(DATA),
    "ratio, linear": E.OffPolicy(DATA, features=np.eye(6), penalty=1e-6),
    "per decision": E.OffPolicy(DATA, "per_decision"),
    "trajectory": E.OffPolicy(DATA, "trajectory"),
    "doubly robust": E.OffPolicy(DATA, "doubly_robust"),
}
UPDATES = {
    "search": U.GradientStep(),
    "fixed": U.GradientStep(0.2),
    "decaying": U.GradientStep(0.3, decay=0.6),
    "adaptive": U.GradientStep(0.05, adaptive=True),
    "natural search": U.NaturalStep(),
    "natural": U.NaturalStep(0.1),
    "natural, compatible": U.NaturalStep(0.1, fisher="sampled", damping=0.05),
    "mirror search": U.MirrorStep(),
    "mirror": U.MirrorStep(0.1),
    "euclidean": U.MirrorStep(0.05, distance="euclidean"),
    "trust region": U.TrustRegion(0.01),
    "clipped": U.ClippedRatio(epochs=4),
}


def refusal(family, estimator, update):
    """The documented reason why three parts cannot be joined, or None."""
    if isinstance(update, U.MirrorStep):
        if not isinstance(family, P.Softmax | P.Direct):
            return "only Softmax and Direct allow"
        if update.distance == "euclidean" and not isinstance(family, P.Direct):
            return "only Direct allows"
    searches = getattr(update, "step_size", 1.0) is None
    return "give a step_size" if searches and estimator.is_sampled else None


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_any_three_parts(estimator, update):
    """Four steps climb: at every one if they are exact, in the end if they are sampled."""
    chosen, moves = ESTIMATORS[estimator], UPDATES[update]
    for name, family in FAMILIES.items():
        reason = refusal(family, chosen, moves)
        if reason is not None:
            with pytest.raises(InvalidProblem, match=reason):
                oc.PolicyGradient(family, chosen, moves)
            continue
        solver = oc.PolicyGradient(family, chosen, moves, steps=4)
        run = list(solver.iterate(oc.Problem(MDP), tol=0.0, rng=np.random.default_rng(0)))
        path = [oc.evaluate(MDP, one.policy).objective for one in run]
        assert len(path) == 5 or path[-1] == pytest.approx(BEST, abs=1e-12), name  # a search that has arrived
        assert path[-1] > path[0] + 1e-4, (name, path)
        if not chosen.is_sampled:
            assert (np.diff(path) > 0).all(), (name, path)


AVERAGE = oc.Problem(MDP.replace(discount=None), criterion="average")
OF_AVERAGES = {
    "exact": E.Exact(),
    "GPOMDP": E.MonteCarlo(trajectories=20, baseline="average"),
    "cycles": E.MonteCarlo(trajectories=800, horizon="cycle", baseline="values"),
    "TD": E.TemporalDifference(trajectories=20),
    "GAE": E.GAE(lam=0.8, trajectories=20),
}


@pytest.mark.parametrize("estimator", OF_AVERAGES)
def test_any_three_parts_for_averages(estimator):
    chosen = OF_AVERAGES[estimator]
    for name, family in FAMILIES.items():
        for label, moves in UPDATES.items():
            if refusal(family, chosen, moves) is not None:
                continue
            solver = oc.PolicyGradient(family, chosen, moves, steps=3)
            run = list(solver.iterate(AVERAGE, tol=0.0, rng=np.random.default_rng(0)))
            path = [oc.evaluate(AVERAGE, one.policy).objective for one in (run[0], run[-1])]
            assert path[1] > path[0] + 1e-4, (name, label, path)


def test_three_parts_of_others():
    """A parametrization, an estimator and an update, each the shortest there can be, joined with one another."""

    class Mixed(P.Parametrization):
        """A share of one policy and the rest of another."""

        def __init__(self, first, second):
            self.first, self.second = (np.asarray(one, dtype=float).ravel() for one in (first, second))

        def initial(self, pairs, policy):
            return np.array([0.5])

        def probabilities(self, pairs, parameters):
            return parameters[0] * self.first + (1 - parameters[0]) * self.second

        def pullback(self, pairs, parameters, slopes):
            return np.array([slopes @ (self.first - self.second)])

        def score(self, pairs, parameters, direction):
            return direction[0] * (self.first - self.second) / self.probabilities(pairs, parameters)

        def project(self, pairs, parameters):
            return parameters.clip(0.01, 0.99)

    class Differences(E.Estimator):
        """Slopes by moving a little mass to each pair and looking at what the policy earns."""

        def prepare(self, problem, rng):
            exact = E.Exact().prepare(problem, rng)

            def estimate(pi):
                here, states = exact(pi), problem.mdp.pairs.states
                earned = []
                for k in range(len(pi)):
                    moved = pi + 1e-6 * ((np.arange(len(pi)) == k) - (states == states[k]) * pi)
                    earned.append((exact(moved).objective - here.objective) / 1e-6)
                mass = np.add.reduceat(here.pair_mass, problem.mdp.pairs.start[:-1])[states]
                return E.Estimate(np.array(earned), np.array(earned) / mass, here.pair_mass, here.objective)

            return estimate

    class Signs(U.Update):
        """So much up or down, whatever the size of the gradient."""

        def step(self, landscape, position):
            gradient = landscape.gradient(position)
            return landscape.move(position, position.parameters + 0.02 * np.sign(gradient))

    best = oc.solve(MDP).policy.pair_probabilities
    mixed = Mixed(0.9 * best + 0.1 / 3, UNIFORM.pair_probabilities)
    for family in (mixed, P.Softmax(), FAMILIES["Network"]):
        for estimator in (Differences(), E.Exact()):
            for update in (Signs(), U.TrustRegion(0.01), U.NaturalStep(0.05), U.ClippedRatio()):
                run = oc.solve(MDP, oc.PolicyGradient(family, estimator, update, steps=6))
                assert run.objective > run.history["objective"][0] + 1e-3
    one, other = (
        kind.prepare(oc.Problem(MDP), np.random.default_rng(0))(UNIFORM.pair_probabilities)
        for kind in (Differences(), E.Exact())
    )
    np.testing.assert_allclose(one.slopes, other.slopes, atol=1e-5)
