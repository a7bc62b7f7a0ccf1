"""A TCP forwarder, `python forwarder.py PORT HOST TARGET_PORT`: stopped by SIGSTOP, what is behind it falls silent."""

import asyncio
import contextlib
import sys


async def forward(port: int, host: str, target_port: int) -> None:
    """Pass on every connection to this port of loopback, for ever."""

    async def connected(near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far_in, far_out = await asyncio.open_connection(host, target_port)
        await asyncio.gather(copy(near_in, far_out), copy(far_in, near_out))

    async with await asyncio.start_server(connected, "127.0.0.1", port, backlog=256) as server:
        await server.serve_forever()


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Everything from one end to the other, and then its end."""
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
