"""``green-router demo``: the same clients, served by the poll loop and by green_router.

Files:

    command      the command
    measure      what is done with each server, and what it costs
    report       the table, and whether to believe it
    conclusion   the sentence that the figures give
    programs/    what is run: plain programs, as a user has them; not a part of this package
"""
