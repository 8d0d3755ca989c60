"""A comparison on a cluster: anything that is a `concurrent.futures.Executor` will do, Dask's among them.

Needs distributed. Here the cluster is two processes of this machine; a scheduler's address would do as well. Answers
are the same on every executor; only the seconds differ.
"""

from distributed import Client, LocalCluster

import occlp as oc


def main() -> None:
    mdp = oc.instances.get("riverswim")
    solvers = [oc.PolicyIteration(), oc.ValueIteration(), oc.NaturalPolicyGradient(), oc.PolicyGradient(steps=200)]

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        client.get_executor(pure=False) as executor,
    ):
        there = oc.compare(mdp, solvers, executor=executor)
    here = oc.compare(mdp, solvers)

    for row, same in zip(there.to_records(), here.to_records(), strict=True):
        print(f"{row['solver']:28} {row['status']:9} {row['objective']:.10f} {row['objective'] == same['objective']}")


if __name__ == "__main__":  # workers import this file
    main()
