"""Bounds on every policy from above, on one policy from below, from any values and prices."""
