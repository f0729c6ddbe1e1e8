"""Upsampling beside forward passes."""

from benchmarks.upsample.measure import main

main()
