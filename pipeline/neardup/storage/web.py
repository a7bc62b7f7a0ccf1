"""Web servers: a client that says what went wrong, and gives up on a server that says nothing.

fsspec's own calls every failed look-up a missing file, and waits 5 minutes.
"""

import time
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem, _file_info

_TRY_LATER = (429, 503)  # answers to HEAD after which GET would say the same


class Web(HTTPFileSystem):  # type: ignore[misc]
    """Objects at http and https urls."""

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Size and version of an object by HEAD; by GET where a server refuses that, or says no size."""
        session = await self.set_session()
        found: dict[str, Any] = {}
        try:
            found = await _file_info(self.encode_url(url), session, "head", **self.kwargs, **kwargs)
        except aiohttp.ClientResponseError as error:
            if error.status in _TRY_LATER:
                raise
        if found.get("size") is None:
            found |= await _file_info(self.encode_url(url), session, "get", **self.kwargs, **kwargs)
        return {"name": url, "size": None, **found, "type": "file"}

    async def _first_bytes(self, url: str, most: int, slowest: tuple[float, int]) -> bytes:
        """The object, or its first `most` bytes where it is larger.

        Raises TimeoutError for a server slower than `slowest`: these seconds, and so many bytes a second.
        """
        begun = time.monotonic()
        session = await self.set_session()
        found = bytearray()
        async with session.get(self.encode_url(url), **self.kwargs) as reply:
            self._raise_not_found_for_status(reply, url)
            async for chunk in reply.content.iter_any():
                found += chunk
                if len(found) >= most:
                    break
                if time.monotonic() - begun > slowest[0] + len(found) / slowest[1]:
                    raise TimeoutError
        return bytes(found[:most])


async def session_of(**settings: Any) -> aiohttp.ClientSession:
    """A session whose requests are not held up by those to other hosts: `hosts` counts them, per host."""
    settings.setdefault("connector", aiohttp.TCPConnector(limit=0))
    return aiohttp.ClientSession(**settings)


def web(protocol: str, connect_s: float, silence_s: float) -> Web:
    """The client of this process; what is configured for it elsewhere stays."""
    from fsspec.config import conf

    limits = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=silence_s)
    configured = dict(conf.get(protocol, {}))
    settings = {"timeout": limits, **configured.pop("client_kwargs", {})}
    return Web(**{"get_client": session_of, **configured, "client_kwargs": settings})
