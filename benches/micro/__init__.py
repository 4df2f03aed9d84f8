"""Micro benchmarks: one scenario, one loop, one process; nanoseconds per operation."""
