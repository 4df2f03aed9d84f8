"""Random programs, run under asyncio and under oxloop: the traces must be the same."""
