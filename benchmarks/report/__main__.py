"""The report at size."""

from benchmarks.report.measure import main

main()
