"""The program of a worker process.

Files:

    main             the program, which is run by its path; runtime, what it does
    front_worker     handlers behind a channel; sender, what they say to the serving process; keyed,
                     their requests; direct_worker, a Server behind a listening socket
    activity         how it tells that its loop has nothing to do
"""
