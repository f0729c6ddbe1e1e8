"""The yardstick of estimators."""

from benchmarks.estimators.measure import main

main()
