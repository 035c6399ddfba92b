"""What the other parts stand on, and what itself stands on gevent alone: the log, waiting, forks, signals."""
