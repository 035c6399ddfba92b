"""Worker processes: who starts them, who hands them requests, and what runs in them.

The map of the room, from the outside in:

    supervisor    a service with workers, from its first to its last; agenda, what it is to do next
    crew          the workers as a whole; staff, their places; starting, replacing, health: what its name says
    child         one worker, from outside; memory, why it may have died
    listeners     the sockets of workers that serve clients themselves; places, where an endpoint is
    collector     what Python's garbage collector is told
    control       where the supervisor is asked; logs, notify, changes: what operators and developers see
    front         the Server that hands requests to workers; dispatcher, who gets which; lane, what one of them has
    explaining    asks on_error, in workers, what a client gets
    line          how supervisor and worker speak; plain, requests and errors as it carries them
    rest          how a worker tells that its loop has nothing to do
    worker        the program of a worker; work, what it does; workshop, behind a line; stall, behind a listening socket
    single        a service without workers
"""
