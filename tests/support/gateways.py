"""Real gateways in front of a server: nginx and HAProxy as child processes on loopback, each with its rate limiter.

Each forwards to an upstream without limits: ``with nginx(upstream.url, Rate(100, 6.0)) as url: …``. They are
the Debian packages nginx and haproxy.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from support.programs import needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_issuer.settings.run_settings import Rate


PATIENCE = 10.0
"""Seconds for a gateway to start or stop."""

_NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    limit_req_zone $http_authorization zone=organization:1m rate={per_minute:.0f}r/m;
    limit_req_status 429;
    server {{
        listen {host}:{port};
        location / {{
            limit_req zone=organization burst={burst} {nodelay};
            proxy_pass {upstream};
        }}
    }}
}}
"""

_HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend gateway
    bind fd@{listener}
    stick-table type string len 64 size 1k expire 10m store http_req_rate({period_ms:.0f}ms)
    http-request track-sc0 req.hdr(Authorization)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit} }}
    default_backend upstream
backend upstream
    server upstream {upstream}
"""


@contextmanager
def nginx(upstream: str, rate: Rate, *, burst: int = 9, nodelay: bool = True) -> Iterator[str]:
    """nginx with ``limit_req``; yields its URL.

    It accepts ``burst`` requests early: at once with ``nodelay``, otherwise each delayed until its time. All others get
    a 429 without ``Retry-After``.
    """
    with _listener() as listener, tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        host, port = listener.getsockname()
        config = _NGINX.format(
            host=host,
            port=port,
            upstream=upstream,
            per_minute=rate.limit * 60 / rate.period,
            burst=burst,
            nodelay="nodelay" if nodelay else "",
        )
        Path(folder, "nginx.conf").write_text(config)
        # nginx inherits sockets this way when it is upgraded.
        environment = {**os.environ, "NGINX": f"{listener.fileno()};"}
        command = [needed("nginx"), "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
        with _running(command, listener, environment):
            yield f"http://{host}:{port}"


@contextmanager
def haproxy(upstream: str, rate: Rate) -> Iterator[str]:
    """HAProxy with a stick table that counts requests, including refused ones, over the last period; yields its URL.

    It estimates the count from two windows, and refuses with a 429 without ``Retry-After``.
    """
    with _listener() as listener, tempfile.TemporaryDirectory(prefix="haproxy-") as folder:
        host, port = listener.getsockname()
        config = Path(folder, "haproxy.cfg")
        config.write_text(
            _HAPROXY.format(
                listener=listener.fileno(),
                period_ms=rate.period * 1000,
                limit=rate.limit,
                upstream=urlsplit(upstream).netloc,
            )
        )
        with _running([needed("haproxy"), "-f", str(config), "-db"], listener, dict(os.environ)):
            yield f"http://{host}:{port}"


def _listener() -> socket.socket:
    """A free port that no other program can take: the gateway inherits the open socket."""
    return socket.create_server(("127.0.0.1", 0), backlog=256)


@contextmanager
def _running(command: Sequence[str], listener: socket.socket, environment: dict[str, str]) -> Iterator[None]:
    """A child process that inherits the listener, and is stopped at the end."""
    address = listener.getsockname()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command,
            pass_fds=[listener.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=messages,
        )
        listener.close()  # only the child has it: if it dies, connections are refused
        works = False
        try:
            works = _answers(address)
            if works:
                yield
        finally:
            works = works and process.poll() is None
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if not works:
                messages.seek(0)
                raise AssertionError(f"{command[0]} does not work:\n{messages.read().decode()}")


def _answers(address: tuple[str, int]) -> bool:
    """Whether it replies; a request without an API token does not count."""
    try:
        with socket.create_connection(address, PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False
