"""Gains for intervals: G ≥ PG on all pairs and g ≤ Pg under the policy admit no tolerance, so they are fractions.

The doubles of the certificate serve where they keep these conditions for the model exactly as given; else the gains
are computed in fractions.
"""

from __future__ import annotations

import numpy as np

from occlp.certificate import Certificate
from occlp.exact.chain import drifts
from occlp.exact.form import ExactForm, Number
from occlp.exact.gains import gains_of_flows, optimal_gains
from occlp.policy import Policy
from occlp.rationals import load_flint, to_rational


def best_gains(form: ExactForm, certificate: Certificate) -> list[Number]:
    """G with G ≥ PG on all pairs, to be maximised, [S]; empty where one number serves all states.

    Raises `Unsupported` where the doubles rise, and fractions are too long.
    """
    if not certificate.gain_values.size:
        return []
    gains = _read(form, certificate.gain_values)
    if max(drifts(form, gains)) <= 0:
        return gains
    rewards = form.priced(form.rewards, certificate.multipliers)
    return optimal_gains(form, rewards, _choice(form, certificate)).gains


def policy_gains(form: ExactForm, certificate: Certificate, policy: Policy) -> list[Number]:
    """g with g ≤ Pg under a policy, to be maximised, [S]; empty where one number serves all states.

    Raises `Unsupported` where the doubles fall, and fractions are too long.
    """
    if not certificate.policy_gain_values.size:
        return []
    fmpq, used = load_flint().fmpq, policy.pair_probabilities > 0
    gains = _read(form, certificate.policy_gain_values)
    shares = [to_rational(p) for p in policy.pair_probabilities.tolist()]
    falls = [share * drift for share, drift in zip(shares, drifts(form, gains), strict=True)]
    spans = [range(first, last) for first, last in zip(form.start[:-1], form.start[1:], strict=True)]
    if all(sum((falls[k] for k in span), 0 * form.rest) >= 0 for span in spans):
        return gains
    flows, earned = [], []
    for span in spans:
        sums = sum((shares[k] for k in span), 0 * form.rest)
        flow: dict[int, Number] = {}
        for pair in (k for k in span if used[k]):
            row = form.rows[pair]
            for target, weight in zip(row.targets, row.weights, strict=True):
                flow[target] = flow.get(target, 0) + shares[pair] / sums * fmpq(weight, row.unit)
        flows.append(flow)
        earned.append(sum((shares[k] / sums * form.rewards[k] for k in span), 0 * form.rest))
    return gains_of_flows(form, flows, earned, used)[0]


def _read(form: ExactForm, gains: np.ndarray) -> list[Number]:
    return [form.sign * to_rational(gain) for gain in gains.tolist()]


def _choice(form: ExactForm, certificate: Certificate) -> list[int]:
    """The cheapest pair of each state."""
    costs = certificate.reduced_costs.tolist()
    spans = zip(form.start[:-1], form.start[1:], strict=True)
    return [min(range(first, last), key=costs.__getitem__) for first, last in spans]
