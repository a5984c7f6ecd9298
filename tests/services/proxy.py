"""A TCP proxy before a service, which can be cut as a network can."""

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Passes connections on to a service until it is cut; then it refuses them and drops those it has."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Start to listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut for good."""
        self.cut()

    def cut(self) -> None:
        """End every connection, and take no more."""
        for end in (self._listener, *self._open):
            _end(end)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._open += (near, far)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
    except OSError:
        pass
    finally:
        _end(source)
        _end(target)


def _end(end: socket.socket) -> None:
    with suppress(OSError):  # it was not connected, or is no longer
        end.shutdown(socket.SHUT_RDWR)
    end.close()
