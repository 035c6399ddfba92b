"""An asyncio library in a handler: aiohttp asks an HTTP service, for as many requests at once as
there are.

An async def is run by asyncio, in one native thread beside the greenlets, and its reply leaves when
it is done. Nothing is patched. The session, like everything of asyncio, is made and closed in that
thread's loop.

    $ python examples/async_http.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 apples pears
    7 apples
    no pears
    $ python examples/clients/asyncio_client.py tcp://127.0.0.1:5555 apples bananas
    7 apples
    7 bananas

A second argument is the URL of another HTTP service; without, a small one runs in a thread of this
program.
"""

import asyncio
import logging
import sys
import threading
from concurrent.futures import Future

import aiohttp
from aiohttp import web

from green_router import Server


class Stock:
    """Asks the service at a URL."""

    def __init__(self, url):
        self.url, self.session, self.loop = url, None, None

    async def __call__(self, request):
        if self.session is None:
            self.session, self.loop = aiohttp.ClientSession(), asyncio.get_running_loop()
        name = request.data.decode()
        async with self.session.get(self.url, params={"name": name}) as response:
            return await response.read() if response.status == 200 else f"no {name}".encode()

    def close(self):
        if self.session is not None:
            asyncio.run_coroutine_threadsafe(self.session.close(), self.loop).result()


async def answer(request):
    name = request.query["name"]
    await asyncio.sleep(0.02)  # a database, say
    return web.Response(text=f"7 {name}", status=404 if name == "pears" else 200)


async def run_service(url):
    application = web.Application()
    application.router.add_get("/stock", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}/stock")
    await asyncio.Event().wait()


def start_service():
    url = Future()
    threading.Thread(target=asyncio.run, args=[run_service(url)], daemon=True).start()
    return url.result()


endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
stock = Stock(sys.argv[2] if len(sys.argv) > 2 else start_service())

logging.basicConfig(level=logging.INFO, format="%(message)s")
Server(stock).serve_forever(endpoint)
stock.close()
