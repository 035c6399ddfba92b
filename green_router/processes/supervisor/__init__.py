"""The supervisor: starts worker processes, watches them, replaces them, and ends them.

Files:

    supervisor    a service with workers, from its first to its last; actions, what it does next
    pool          the workers as a whole; slots, who occupies which; spawner, rolling, liveness:
                  what their names say
    child         one worker, as it is known here
    process       how it is started and ended, and why it died
    reloader      source files that change, for ``--reload``
"""
