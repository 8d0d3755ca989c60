"""Cases × solvers × phases: what a certified answer costs, here and elsewhere, measured in one run."""
