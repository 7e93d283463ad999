"""The real service in one process, on a clock that is moved: for the audit, the demo, benchmarks and tests."""
