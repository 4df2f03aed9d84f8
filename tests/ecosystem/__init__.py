"""Real programs, unmodified, on each event loop: see loops.py for which loops, conftest.py for
the fixtures, and one test module per library.
"""
