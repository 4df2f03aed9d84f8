"""Macro benchmarks: a server process on one CPU, the load generator on another."""
