"""A static server on this machine's loopback: what the browser may see, and under which type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from types import MappingProxyType
from typing import Final

# A browser compiles WebAssembly while it arrives only under its own type, and loads a module only as JavaScript.
TYPES: Final = MappingProxyType(
    {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json"}
    | {".wasm": "application/wasm"}
)
NPM: Final = "/npm/"


@contextmanager
def serving(files: Mapping[str, bytes], *, packages: Path) -> Iterator[str]:
    """Serve `files` (path to content) and the installed packages below /npm/; yield the origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = _content(self.path, files, packages)
            self.send_response(HTTPStatus.NOT_FOUND if content is None else HTTPStatus.OK)
            self.send_header("Content-Type", TYPES.get(PurePosixPath(self.path).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _content(path: str, files: Mapping[str, bytes], packages: Path) -> bytes | None:
    if path in files:
        return files[path]
    if not path.startswith(NPM) or ".." in PurePosixPath(path).parts:
        return None
    file = packages / "node_modules" / path.removeprefix(NPM)
    return file.read_bytes() if file.is_file() else None
