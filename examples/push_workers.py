"""Push from worker processes: a service under ``green-router serve`` speaks to clients by
``green_router.send``.

There is no server at hand here, and none is needed: ``send`` finds the one of this process, from a
handler, a greenlet or an OS thread. Each worker remembers those who subscribed with it. Any worker
reaches every client, as long as the serving process has the connections (``--dispatch front``, the
default); with ``direct`` a worker reaches its own clients alone.

    $ green-router serve examples/push_workers.py:handle_request --workers 2 --log-level warning -b tcp://127.0.0.1:5555 &
    green-router serving on tcp://127.0.0.1:5555
    $ python examples/clients/listen.py tcp://127.0.0.1:5555 "tell me 3"
    you will be told
    tick 1
    tick 2
    tick 3
"""  # noqa: E501

import gevent

from green_router import send

subscribers = {}  # how much each of them has been told, and how much it wants


def handle_request(request):
    subscribers[request.routing_id] = [0, int(request.data.split()[-1])]
    return b"you will be told"


def tick():
    while True:
        gevent.sleep(0.1)
        for routing_id, counts in list(subscribers.items()):
            counts[0] += 1
            if counts[0] <= counts[1]:
                send(routing_id, b"tick %d" % counts[0])
            else:
                send(routing_id, b"")  # an empty message: the client may go
                del subscribers[routing_id]


gevent.spawn(tick)
