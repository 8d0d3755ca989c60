"""Total rewards: what is earned until the process has stopped, and how often each pair is taken until then.

Letters: ``x`` expected visits, ``V`` values, ``w`` expected steps, ``ρ = r + PV − V``. For every policy that
stops almost surely, J = μ0·V + x·ρ for any V that vanishes where it stops. So V with ρ ≤ 0 on all pairs bounds
every policy from above, and V with ρ ≥ 0 on the pairs of a policy bounds that policy from below; a step of
δ w turns values with small residuals into such values (docs/conventions.md, section 9).
"""
