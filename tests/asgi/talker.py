"""Talks to the WebSockets of real.py with the `websockets` library: port, path, messages; prints what it hears."""
import asyncio
import sys

from websockets.asyncio.client import connect


async def main(port, path, messages):
    # it offers to compress, as browsers do
    async with connect("ws://127.0.0.1:%s%s" % (port, path), subprotocols=["chat"]) as socket:
        print(socket.subprotocol)
        for message in messages:
            await socket.send(message)
            print(await socket.recv())
        await (await socket.ping())
    print(socket.close_code)

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
