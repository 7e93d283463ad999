"""Benchmarks: ratios against peers in the same run.

Plans of workloads are their own, not those of tests: figures of two versions compare while their workload stays as it is.
"""
