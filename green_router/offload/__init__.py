"""Work on other cores and machines: functions that are called elsewhere, with plain data, and their
futures.

future      a future that greenlets, OS threads and asyncio can wait for
threads     native threads
child       the program of the processes, and how they are spoken to
processes   processes of our own, one call each at a time
dask        a cluster, by way of one process that is its client
engines     which of them, ``threads:32``; and ``offload``
"""
