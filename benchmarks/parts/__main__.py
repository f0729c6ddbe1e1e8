"""Which part of a run's χ speaks."""

from benchmarks.parts.measure import main

main()
