"""Processes that a command starts to measure them: subprocesses, how they run and end; cost, what
they use."""
