"""Solvers: one file a family; `choice` holds the rules by which one is taken."""
