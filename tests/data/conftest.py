import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server(ThreadingHTTPServer):
    r"""Serves :obj:`files` after a :obj:`delay` in seconds: ranges of them if it :obj:`resumes`,
    and at most as many bytes as it :obj:`sends`.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.resumes, self.sends, self.kind = True, None, "application/octet-stream"
        self.delay = 0.0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        time.sleep(self.server.delay)
        content = self.server.files.get(self.path)
        start = int(wanted[6:-1]) if wanted and self.server.resumes else 0
        if content is None or start >= len(content) > 0:
            return self.send_error(404 if content is None else 416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", self.server.kind)
        self.end_headers()
        self.wfile.write(content[start:][: self.server.sends])

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def at_once() -> Callable[..., None]:
    r"""Lets several processes do the same at the same time, and fails if one of them does."""
    return _at_once


def _at_once(act: Callable[[], None], processes: int = 2) -> None:
    waiting, started = os.pipe()
    children = []
    for _ in range(processes):
        if not (child := os.fork()):
            status = 1
            try:
                os.close(started)
                os.read(waiting, 1)  # until the parent closes its end
                act()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(waiting)
    os.close(started)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
