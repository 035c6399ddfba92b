"""The ground of the other parts, which stands on gevent alone: the log, waiting, forks, signals."""
