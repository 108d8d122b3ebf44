"""Granian on an inherited descriptor: it has no option for that, but its embedded server takes a socket.

granian_fd.py FD
"""
import asyncio
import signal
import sys

from granian._granian import SocketHolder
from granian.server.embed import Server

import app


class Inherited(Server):
    def _init_shared_socket(self):
        self._ssp = None
        self._sfd = int(sys.argv[1])
        self._shd = SocketHolder(self._sfd, False, 2048)


async def main():
    server = Inherited(app.asgi, interface="asgi")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


asyncio.run(main())
