"""Worker processes: who starts them, who hands them requests, and what runs in them.

The map of the room, from the outside in:

    supervisor    starts, watches, replaces and ends worker processes
    front         serves the endpoints and hands requests to workers
    worker        what runs in a worker process
    channel       how supervisor and workers speak
    control       where the supervisor is asked; logs, systemd: what operators see
    stacks        those of a process that was ended by a fatal signal
    interpreter   what Python's garbage collector and its threads are told
    single        a service without workers
    pid_file      where a service says which process it is
"""
