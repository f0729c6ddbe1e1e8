"""Push and sweep beside other solvers."""

from benchmarks.cluster.measure import main

main()
