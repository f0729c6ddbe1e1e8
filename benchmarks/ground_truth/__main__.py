"""Balmer beside devinterp."""

from benchmarks.ground_truth.measure import main

main()
