"""The front: serves the endpoints in the supervisor's process, and hands requests to workers.

Files:

    server         the Server whose handlers are elsewhere
    dispatcher     who gets which request
    answers        what becomes of it
    backend        what one worker has in hand
    error_calls    asks on_error, in workers, what a client gets
"""
