"""How supervisor and workers speak.

Files:

    protocol    each message once: its direction, its fields, and tables of who takes it
    encoding    errors, and where a request comes from, as the plain data that messages carry
    stream      batches of messages over a socket pair
"""
