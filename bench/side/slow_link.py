"""A TCP proxy that behaves like a slow line: a round trip of 50 ms, 20 Mbit/s each way.

    slow_link.py LISTEN_PORT TARGET_PORT

All connections share the line. A new connection costs one round trip, as its handshake would. Loss and slow
start are not modelled, in nobody's favour.
"""

import asyncio
import sys

ROUND_TRIP = 0.050
BYTES_PER_SECOND = 20_000_000 / 8
CHUNK = 16 << 10
# Chunks under way in one direction of one connection: more than the line holds at any time.
IN_FLIGHT = 32


class Line:
    """One direction of the line; hands out the moments at which bytes arrive."""

    def __init__(self):
        self.free_at = 0.0

    def arrival(self, now, length):
        self.free_at = max(now, self.free_at) + length / BYTES_PER_SECOND
        return self.free_at + ROUND_TRIP / 2


async def pump(reader, writer, line):
    loop = asyncio.get_running_loop()
    under_way = asyncio.Queue(IN_FLIGHT)

    async def deliver():
        while True:
            arrives, data = await under_way.get()
            await asyncio.sleep(max(0.0, arrives - loop.time()))
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def send():
        data = b"first"
        while data:
            data = await reader.read(CHUNK)
            await under_way.put((line.arrival(loop.time(), len(data)), data))

    await asyncio.gather(send(), deliver())


async def serve(listen, target):
    up, down = Line(), Line()

    async def connection(reader, writer):
        await asyncio.sleep(ROUND_TRIP)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pump(reader, far_writer, up), pump(far_reader, writer, down))
            far_writer.close()
        except (ConnectionError, OSError):
            pass  # One end hung up: so does the line.
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", listen)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
