"""``green-router bench``: ten ways to serve a ROUTER, measured under the same load.

Files:

    command       the command
    strategies    what can be measured, and how each is started
    clients       the processes that ask; load, what happens in one of them
    machine       what the machine has room for
    report        table and JSON; plot, the picture
"""
