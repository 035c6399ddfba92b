"""How supervisor and workers speak.

    stream      messages over a socket pair, in batches
    protocol    requests and errors as messages carry them
"""
