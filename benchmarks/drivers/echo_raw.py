"""Bytes back as they came, on uvloop: the ceiling of an echo in Python. ``echo_raw.py PORT``."""

import asyncio
import sys

import uvloop


class Echo(asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(262144))

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, size):
        return self.buffer

    def buffer_updated(self, size):
        self.transport.write(bytes(self.buffer[:size]))


async def main(port):
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
