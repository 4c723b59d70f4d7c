"""Where secrets may be and where not: whole scenarios, then a search of everything that they showed and left behind.

The API token and passwords are nowhere. Tokens and codes are in the results, their journal and copies of these, but not
on stdout or stderr, not in the quota's files, locks, file names, command lines, logs, exceptions or reprs.

A new scenario is a function of a `Stage` and a line in `SCENARIOS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import itertools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
import pytest
import trustme
from support.processes import PATIENCE, wait_until
from support.raw_server import Exchange, RawServer, live_raw_server, server_tls, tunnel
from support.rosters import table
from support.sandbox import live_sandbox
from support.shared_quota import free_port, redis_server

from batch_issuer import (
    BatchIssuerError,
    ResultsError,
    Roster,
    Sandbox,
    Secret,
    Settings,
    SettingsError,
    StorageError,
    issue_file,
    issue_frame,
    retry_file,
)
from batch_issuer.api.client import open_client
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import open_quota
from batch_issuer.results import AUTH_COLUMNS, Destination, Validity, read_results, status_of
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from concurrent.futures import Future

KEY = "KEY-marked-7gQ2xV9mZt4Lw8Rb1Nf6Hc3"
ODD_KEY = "KEY+marked/7gQ2%xV9m&Zt4Lw8R=b1"
PASSWORD = "PASSWORD-marked-5jW8sKq2Yd7Tn4Ux"  # noqa: S105 - invented
QUICK = ("--rate", "5000/s")
PARALLEL = 6
"""Scenarios at a time: most of each is waiting."""

# --- the search


@cache
def forms(secret: str) -> tuple[bytes, ...]:
    """The forms of a secret to search for: whole, in part, or encoded; after `squeezed`."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), raw.hex().encode(), json.dumps(secret)[1:-1].encode()}
    found |= {raw[8:20], raw[-12:]} if len(raw) >= 24 else set()
    for before in range(3):  # Base64 goes by three bytes, so what precedes it decides its letters
        end = (before + len(raw)) // 3 * 4
        found.add(b64encode(b"x" * before + raw)[-(-before * 4 // 3) : end])
    found |= {form.translate(bytes.maketrans(b"+/", b"-_")) for form in found}
    return tuple(sorted(map(squeezed, found)))


def squeezed(data: bytes) -> bytes:
    """Without case, and without what wrapping, quoting or UTF-16 puts between characters."""
    return re.sub(rb"[\s\0\"'\\]", b"", data).lower()


@dataclass(frozen=True)
class Piece:
    """Something left or shown, and where."""

    where: str
    data: bytes
    may_contain_tokens: bool = False


Known = dict[str, set[str]]
"""Secrets by kind: ``API token``, ``password``, ``token``, ``code``."""


def found_in(piece: Piece, known: Known) -> set[str]:
    """The kinds of secrets in it."""
    # A database repeats the same text in hundreds of pages; each is searched once.
    text = b"\0".join(set(re.findall(rb"[!-~]{8,}", squeezed(piece.where.encode() + b"\xff" + piece.data))))
    return {
        kind for kind, secrets in known.items() for secret in secrets if any(form in text for form in forms(secret))
    }


def leaks(pieces: Iterable[Piece], known: Known) -> list[str]:
    """Kinds of secrets in places where they must not be; the secrets themselves are not shown."""
    output = []
    for piece in pieces:
        allowed = {"token", "code"} if piece.may_contain_tokens else set()
        in_name = found_in(Piece(piece.where, b""), known)
        output += [f"{kind} in a file name" for kind in in_name]
        output += [f"{kind} in {piece.where}" for kind in found_in(piece, known) - in_name - allowed if not in_name]
    return sorted(set(output))


# --- the stage: a folder of its own for each scenario, processes that are watched


class Stage:
    """The folders and processes of a scenario.

    Attributes:
        work: the folder of the roster and the results.
        environ: of the processes; it has the API token.
        known: the secrets there are.
    """

    RESULTS = re.compile(r"work/(?:[\w-]+/)?[\w-]+\.results\.csv(?:\.partial(?:\.\d+)?)?(?:\.writing)?")
    RESCUED = re.compile(r"tmp/batch-issuer-\w+\.csv")
    ROSTER = re.compile(r"work/depot\.csv")

    def __init__(self, root: Path, key: str = KEY) -> None:
        self.root = root
        self.work, self.output, self.state = (root / name for name in ("work", "output", "state"))
        for folder in (self.work, self.output, self.state, root / "home", root / "tmp"):
            folder.mkdir(parents=True)
        self.roster = self.work / "depot.csv"
        self.results = self.work / "depot.results.csv"
        self.partial = self.work / "depot.results.csv.partial"
        self.known: Known = {"API token": {key}, "password": {PASSWORD}, "token": set(), "code": set()}
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "XDG_STATE_HOME": str(self.state),
            "SAMSARA_API_TOKEN": key,
        }
        self._sampled: set[tuple[str, bytes]] = set()
        self._started = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def write_roster(self, count: int, *more: str) -> None:
        lines = [f"Sample {n},{700000 + n},{PASSWORD}\n" for n in range(count)]
        self.roster.write_text("".join(["Driver,Driver ID,App password\n", *lines, *(f"{line}\n" for line in more)]))

    @contextmanager
    def sandbox(self, **options: Any) -> Iterator[Sandbox]:
        """A sandbox; its tokens and codes are known at the end. No request limit by default."""
        with live_sandbox(**{"api_token": KEY, "limiter": "none", **options}) as sandbox:
            try:
                yield sandbox
            finally:
                self.learn(sandbox)

    def learn(self, sandbox: Sandbox) -> None:
        self.known["token"] |= {entry.token for entry in list(sandbox.ledger)} - {""}
        self.known["code"] |= {entry.code for entry in list(sandbox.ledger)} - {""}

    @contextmanager
    def start(self, *arguments: str | Path, python: Sequence[str] = ("-m", "batch_issuer")) -> Iterator[Started]:
        """A process in the folder of the roster, watched while it runs; it ends with the block."""
        self._started += 1
        with (
            (self.output / f"{self._started}.stdout").open("wb") as out,
            (self.output / f"{self._started}.stderr").open("wb") as err,
        ):
            command = [sys.executable, *python, *map(str, arguments)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.environ, cwd=self.work
            )
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, ended))
        watcher.start()
        try:
            yield Started(process, Path(err.name))
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            ended.set()
            watcher.join()

    def run(
        self,
        *arguments: str | Path,
        code: int | None = 0,
        python: Sequence[str] = ("-m", "batch_issuer"),
        patience: float = PATIENCE,
    ) -> str:
        """Run a command to its end; returns its stderr."""
        with self.start(*arguments, python=python) as started:
            started.end(code, patience)
        return started.stderr()

    def run_many(
        self,
        *commands: Sequence[str | Path],
        codes: Sequence[int] = (),
        before: str = "",
        options: Sequence[str] = (),
    ) -> str:
        """Run commands one after the other in one process, which saves starting Python; returns its stderr.

        codes: their exit codes must be these, if given.
        """
        listed = self.root / "home" / "commands.json"
        listed.write_text(json.dumps([list(map(str, command)) for command in commands]))
        patience = PATIENCE + len(commands)  # each takes a tenth of a second or two
        output = self.run(listed, python=[*options, "-c", before + MANY], patience=patience)
        ended = re.findall(r"^exit code (\d+)$", (self.output / f"{self._started}.stdout").read_text(), re.MULTILINE)
        assert list(map(int, ended)) == list(codes) or not codes, f"exit codes {ended}, see {self.output}"
        return output

    def _watch(self, pid: int, ended: threading.Event) -> None:
        """Until the process ends, read everything that others can see of it."""
        while not ended.is_set():
            for process in list(_family(pid)):
                for name in ("cmdline", "comm"):
                    with suppress(OSError):
                        self._sampled.add((f"{name} of a process", Path(f"/proc/{process}/{name}").read_bytes()))
            for piece in self._files():
                if not piece.may_contain_tokens:
                    self._sampled |= {(piece.where, part) for part in _parts(piece.data)}
            ended.wait(0.04)

    def _files(self) -> Iterator[Piece]:
        found = (Path(folder, name) for folder, *names in os.walk(self.root) for name in itertools.chain(*names))
        for path in found:  # unlike rglob, os.walk passes over folders that vanish meanwhile
            where = path.relative_to(self.root).as_posix()
            if self.ROSTER.fullmatch(where):
                continue
            with suppress(OSError):  # it was there a moment ago
                data = path.read_bytes() if path.is_file() else b""
                yield Piece(where, data, bool(self.RESULTS.fullmatch(where) or self.RESCUED.fullmatch(where)))

    def pieces(self) -> list[Piece]:
        """Everything left and shown."""
        sampled: dict[str, list[bytes]] = {}
        for where, data in self._sampled:
            sampled.setdefault(where, []).append(data)
        return [*self._files(), *(Piece(where, b"\xff".join(parts)) for where, parts in sampled.items())]


def _parts(data: bytes) -> Iterator[bytes]:
    """A file in parts that overlap, so that of one that grows only what is new is kept again."""
    for start in range(0, max(1, len(data)), 4096):
        yield data[start : start + 4096 + 256]


# The commands of a JSON file; each begins to back off after hundredths of a second.
MANY = """
import json, sys
import batch_issuer.pipeline.backoff
from batch_issuer.cli import main
batch_issuer.pipeline.backoff.BACKOFF_BASE = 0.01
for arguments in json.load(open(sys.argv[1])):
    print("exit code", main(arguments))
"""


@dataclass(frozen=True)
class Started:
    """A process and what it writes."""

    process: subprocess.Popen[bytes]
    stderr_path: Path

    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def wait_for_output(self, text: str) -> None:
        wait_until(lambda: text in self.stderr() or self.process.poll() is not None, f"{text!r} on stderr")
        assert text in self.stderr(), f"see {self.stderr_path}"

    def end(self, code: int | None = None, patience: float = PATIENCE) -> None:
        """Wait for its end, ``patience`` seconds at most; ``code`` is what it must be."""
        self.process.wait(patience)
        assert code is None or self.process.returncode == code, (
            f"exit code {self.process.returncode} instead of {code}, see {self.stderr_path}"
        )


def _family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    children = ""
    with suppress(OSError):  # it ends meanwhile
        children = " ".join(task.read_text() for task in Path("/proc").glob(f"{pid}/task/*/children"))
    for child in children.split():
        yield from _family(int(child))


# --- servers that echo


@contextmanager
def live_server(stage: Stage, answer: Any, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server in a thread of its own; the codes that it was sent are known at the end."""
    with live_raw_server(answer, tls=tls) as server:
        try:
            yield server
        finally:
            stage.known["code"] |= {sent(request.body)["code"] for request in server.requests if request.body}


def sent(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body)
    return document


def reply(status: int | str, body: object, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers, "", ""]).encode() + data


def echoes(key: str, code: str) -> list[bytes]:
    """Answers that repeat the request in every possible place; the last one closes the connection."""
    output = f"Bearer {key} may not use code={code}, {key.upper()} {code.lower()}"
    error = {"message": output, "requestId": f"{key}{code}", "token": key}
    return [
        reply("400 Bad Request", error),
        reply("404 Not Found", error, f"X-Key: {key}", f"Set-Cookie: key={key}; code={code}"),
        reply(f"422 {key} {code}", error),
        reply("405 No", error, f"Allow: {key}", f"WWW-Authenticate: Bearer realm={key}"),
        reply("413 No", output.encode(), "Content-Type: text/plain"),
        reply("451 No", f"<html>{output}</html>".encode(), "Content-Type: text/html"),
        reply("500 No", {"message": [output], "requestId": {"key": key}}),
        reply("502 No", {"message": f"{key}\n{code}\x1b[2J\r{key}{code}"}),
        reply("503 No", error, f"Retry-After: {key}"),
        reply("504 No", {"message": "x" * 250 + output * 9}),
        reply("301 No", error, f"Location: http://{key}.example.com/{key}?code={code}#{code}"),
        reply("302 No", b"", f"Location: http://{key.lower()}:{code}@127.0.0.1/{code}"),
        reply("307 No", b"", f"Location: //{code}.{key}/"),
        reply("308 No", b"", f"Location: http://[{key}/{code}"),
        reply("200 OK", {"data": {"token": f"{key} {code}", "expirationTime": code}, **error}),
        reply("200 OK", {"data": {"token": None}, **error}),
        reply("200 OK", {"data": key, **error}),
        reply("200 OK", output.encode()),
        reply("200 OK", error, f"Content-Encoding: {key}"),
        reply("200 OK", error, f"Bad Header {key} {code}: x"),
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}{code}\r\n".encode(),
        f"{output}\r\n\r\n".encode(),
    ]


async def echo_each(exchange: Exchange) -> None:
    """One of the `echoes`, by the number of the driver; at another address it refuses the API token."""
    _, _, key = exchange.request.headers["authorization"].partition(" ")
    request = sent(exchange.request.body)
    answers = echoes(key, request["code"])
    if "/refused/" in exchange.request.line:
        await exchange.send(answers[0].replace(b"400 Bad Request", b"401 Unauthorized"))
    else:
        await exchange.send(answers[request["driverId"] % len(answers)])
    exchange.writer.close()


def tokens_for(stage: Stage) -> Callable[[Exchange], Coroutine[Any, Any, None]]:
    """An answer that issues a token and repeats secrets; these tokens are known."""

    async def answer(exchange: Exchange) -> None:
        request = sent(exchange.request.body)
        token = f"ZmFrZS{request['driverId']}{request['code'][::-1]}=="
        stage.known["token"].add(token)
        data = {"token": token, "expirationTime": int((time.time() + 900) * 1000)}
        document = {"data": data, "message": f"{token} {request['code']}", "requestId": f"{request['code']}"}
        await exchange.send(reply(200, document, f"X-Token: {token}", f"Set-Cookie: token={token}"))

    return answer


def proxy_in_front_of(port: int) -> Callable[[Exchange], Coroutine[Any, Any, None]]:
    """A proxy to a port; for example.com it shows the password, encoded and plain."""

    async def answer(exchange: Exchange) -> None:
        if "example.com" not in exchange.request.line:
            await tunnel(port)(exchange)
            return
        output = f"{exchange.request.raw.decode('latin-1')} user:{PASSWORD}"
        line = exchange.request.headers["proxy-authorization"]
        await exchange.send(reply(f"407 {line}", {"message": output}, f"Proxy-Authenticate: Basic realm={PASSWORD}"))
        exchange.writer.close()

    return answer


# --- the scenarios


def success(stage: Stage) -> None:
    """A run and commands on its files, with all of Python's diagnostics on."""
    stage.write_roster(10, "No ID,,", "Twice,700001,", "Unknown,7404404,")
    stage.environ["PYTHONASYNCIODEBUG"] = "1"
    with stage.sandbox(latency=(0.0, 0.1)) as sandbox:
        url = ("--base-url", sandbox.url)
        stage.run("issue", stage.roster, *url, *QUICK, code=1, python=["-X", "dev", "-m", "batch_issuer"])
        stage.run_many(
            ["check", stage.roster],
            ["check", stage.results],
            ["issue", stage.roster, *url],
            ["issue", stage.results, *url],
            ["status", stage.results],
            ["status", stage.results, "--json"],
            ["quota", *url],
            ["retry", stage.results, *url, *QUICK],
            ["retry", stage.results, *url, *QUICK, "--min-validity", "1h", "--quiet"],
            ["issue", stage.roster, *url, *QUICK, "--overwrite", "--quiet"],
            ["purge", stage.results],
        )


def every_fault_in_one_run(stage: Stage) -> None:
    """Each once, then the API token is revoked; the files are shown, and resumed until the server refuses."""
    stage.write_roster(40)
    faults = "reset,lost,slow,truncated,html,badjson,shape,hang,400,404,405,413,422,429,500,502,503,504"
    with (
        stage.sandbox(script=f"ok*10,{faults},ok*5,401*", latency=(0.0, 0.02)) as sandbox,
        stage.sandbox(script="ok*2,429*") as unwilling,
    ):
        options = (*QUICK, "--timeout", "3s")
        stage.run_many(
            ["issue", stage.roster, "--base-url", sandbox.url, *options],
            ["status", stage.results],
            ["status", stage.results, "--json"],
            ["retry", stage.results, "--base-url", unwilling.url, *options, "--give-up-after", "500ms"],
            codes=[3, 1, 1, 4],
        )


def one_fault_for_every_row(fault: str, stage: Stage) -> None:
    """Until their attempts are used up, or the run gives up; then `status`, and again with another ending."""
    stage.write_roster(6)
    options = (*QUICK, "--timeout", "200ms", "--give-up-after", "2s")
    with stage.sandbox(script=f"ok*2,{fault}*") as sandbox:
        run = ("--base-url", sandbox.url, *options)
        stage.run_many(
            ["issue", stage.roster, *run],
            ["status", stage.results],
            ["status", stage.results, "--json"],
            ["retry", stage.results, *run, "--quiet", "--min-validity", "1h"],
        )


def a_server_that_echoes(key: str, stage: Stage) -> None:
    """It repeats the API token and the code in its answers until the run gives up; then it refuses the API token."""
    stage.write_roster(len(echoes("", "")))
    stage.environ["PYTHONASYNCIODEBUG"] = "1"
    stage.known["API token"], stage.environ["SAMSARA_API_TOKEN"] = {key}, key
    with live_server(stage, echo_each) as server:
        run = (*QUICK, "--timeout", "2s", "--give-up-after", "1s")
        output = stage.run_many(
            ["issue", stage.roster, "--base-url", server.url, *run],
            ["status", stage.results],
            ["status", stage.results, "--json"],
            ["retry", stage.results, "--base-url", f"{server.url}/refused", *run],
            codes=[4, 1, 1, 3],
        )
    assert "***" in output


@contextmanager
def waiting_in_vain(stage: Stage, *command: str | Path) -> Iterator[Started]:
    """A run with twelve tokens and at least one request that gets no reply."""
    with (
        stage.sandbox(script="ok*12,hang*") as sandbox,
        stage.start(*command, "--base-url", sandbox.url, *QUICK) as started,
    ):
        wait_until(lambda: len(sandbox.ledger) > 12, "requests")
        yield started


def signals_and_kills(stage: Stage) -> None:
    """SIGKILL; resumed by ``issue``, stopped by Ctrl-C; by ``retry``, ended by a second Ctrl-C; and finished."""
    stage.write_roster(50)
    with waiting_in_vain(stage, "issue", stage.roster) as started:
        os.kill(started.process.pid, signal.SIGKILL)
        started.end(-signal.SIGKILL)
    with waiting_in_vain(stage, "issue", stage.roster, "--timeout", "1s") as started:
        started.process.send_signal(signal.SIGINT)
        started.end(128 + signal.SIGINT)
    with waiting_in_vain(stage, "retry", stage.results) as started:
        started.process.send_signal(signal.SIGINT)
        started.wait_for_output("Stopping")
        started.process.send_signal(signal.SIGINT)
        started.end(128 + signal.SIGINT)
    with stage.sandbox() as sandbox:
        finish = ["retry", stage.results, "--base-url", sandbox.url, *QUICK]
        looks = [["status", stage.partial], ["purge", stage.results], ["check", stage.partial]]
        stage.run_many(*looks, finish, codes=[1, 2, 2, 0])


def kept_aside(stage: Stage) -> None:
    """Journals of killed runs are kept aside; two runs use the same results."""
    stage.write_roster(20)
    for more in ((), ("--overwrite",)):
        with waiting_in_vain(stage, "issue", stage.roster, *more):
            assert "another run" in stage.run("retry", stage.results, "--sandbox", code=2)
    with stage.sandbox() as sandbox:
        run = ("--base-url", sandbox.url, *QUICK)
        stage.run("issue", stage.roster, *run, "--overwrite")
        stage.run("issue", stage.roster, *run, "--overwrite")


def write_table(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def shifted(row: list[str], start: int, by: int) -> list[str]:
    """A row after cells were inserted or deleted and the others shifted; as wide as before."""
    moved = [*row[:start], *[""] * by, *row[start:]] if by > 0 else [*row[:start], *row[start - by :], *[""] * -by]
    return moved[: len(row)]


def looks(path: Path, *run: str) -> list[list[str | Path]]:
    """Every command on a results file."""
    return [
        ["status", path],
        ["status", path, "--json"],
        ["purge", path],
        ["check", path],
        ["issue", path.parent / "depot.csv", "-o", path, *run],
        ["retry", path, *run],
        ["retry", path, *run, "--quiet"],
    ]


def moved_cells(path: Path, variants: Iterable[tuple[int, int]]) -> Iterator[Path]:
    """Copies of results with shifted cells in one or all rows: tokens where statuses and errors should be."""
    header, *body = table(path)
    for start, by in variants:
        for rows in (1, len(body)):
            moved = [shifted(row, start, by) if number < rows else row for number, row in enumerate(body)]
            sign = "right" if by > 0 else "left"
            yield write_table(path.with_name(f"{start}-{sign}-{abs(by)}-{rows}.results.csv"), [header, *moved])


def edited_cells(path: Path) -> Iterator[Path]:
    """Copies in which cells name other drivers, rows were copied, columns were swapped, a quote is open."""
    header, *body = table(path)
    status, token, code, identifier = map(header.index, ("auth_status", "auth_token", "auth_code", "auth_identifier"))
    swap = {token: status, status: token}

    def edited(column: int, cell: str) -> list[list[str]]:
        return [header, [*body[0][:column], cell, *body[0][column + 1 :]], *body[1:]]

    for name, rows in {
        "another-driver": edited(1, "712345"),
        "driver-of-the-next-row": edited(1, body[1][1]),
        "token-as-driver": edited(1, body[0][token]),
        "token-as-status": edited(status, body[0][token]),
        "code-as-identifier": edited(identifier, body[0][code]),
        "no-code": edited(code, ""),
        "copied": [header, *body, body[0]],
        "too-wide": [header, *body[1:], [*body[0], body[0][token]]],
        "too-narrow": [header, body[0][token:], *body[1:]],
        "columns-swapped": [header, *([row[swap.get(n, n)] for n in range(len(row))] for row in body)],
        "names-swapped": [[header[swap.get(n, n)] for n in range(len(header))], *body],
    }.items():
        yield write_table(path.with_name(f"{name}.results.csv"), rows)
    text = path.read_text(encoding="utf-8-sig")
    for name, corrupted in {
        "half": text[: text.index(body[2][code]) + 20],
        "quote": text.replace(body[1][token], '"' + body[1][token]),
    }.items():
        path.with_name(f"{name}.results.csv").write_text(corrupted)
        yield path.with_name(f"{name}.results.csv")


EVERY_CHANGE = tuple(product(range(len(AUTH_COLUMNS) + 2), [by for by in range(-8, 9) if by]))


def corrupted_results(variants: Sequence[tuple[int, int]], stage: Stage) -> None:
    """Every command on corrupted results."""
    stage.write_roster(4, "Unknown,7404404,", "No ID,,")
    with stage.sandbox() as sandbox:
        run = ("--base-url", sandbox.url, *QUICK)
        stage.run("issue", stage.roster, *run, code=1)
        copies = [*edited_cells(stage.results), *moved_cells(stage.results, variants)]
        stage.run_many(*(command for copy in copies for command in looks(copy, *run)))


def expired_and_purged(stage: Stage) -> None:
    stage.write_roster(5)
    with stage.sandbox(token_lifetime=0.001) as sandbox:
        stage.run("issue", stage.roster, "--base-url", sandbox.url, *QUICK)
        stage.learn(sandbox)
        assert table(stage.results)[1][3] in stage.known["token"]
        stage.run_many(["status", stage.results], ["purge", stage.results], ["status", stage.results, "--json"])
        assert table(stage.results)[1][3] == ""
        stage.run("retry", stage.results, "--base-url", sandbox.url, *QUICK)


def a_proxy_with_a_password(stage: Stage) -> None:
    """Refused by it, then through it to a server that repeats secrets."""
    stage.write_roster(5)
    authority = trustme.CA()
    context = server_tls(authority, "localhost")
    authority.cert_pem.write_to_path(stage.root / "home" / "ca.pem")
    stage.environ["SSL_CERT_FILE"] = str(stage.root / "home" / "ca.pem")
    stage.environ["PYTHONASYNCIODEBUG"] = "1"
    with (
        live_server(stage, tokens_for(stage), context) as server,
        live_server(stage, proxy_in_front_of(server.port)) as proxy,
    ):
        stage.environ["HTTPS_PROXY"] = f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}"
        refused = ["issue", stage.roster, "--base-url", "https://example.com", *QUICK, "--give-up-after", "300ms"]
        taken = ["retry", stage.results, "--base-url", f"https://localhost:{server.port}", *QUICK]
        assert "the proxy refused" in stage.run_many(refused, taken, codes=[4, 0])


def a_proxy_that_cannot_be_used(stage: Stage) -> None:
    stage.write_roster(3)
    run = ("--base-url", "https://localhost:1", *QUICK, "--give-up-after", "300ms")
    for address, code in (
        (f"http://user:{PASSWORD}@127.0.0.1:{free_port()}", 4),
        (f"https://user:{PASSWORD}@127.0.0.1:{free_port()}", 4),
        (f"http://user:{PASSWORD}@host.invalid:1", 4),
        (f"socks5://user:{PASSWORD}@127.0.0.1:1", 2),
        (f"http://user:{PASSWORD}@[::1", 2),
        (f"user:{PASSWORD}", 2),
    ):
        stage.environ["HTTPS_PROXY"] = address
        stage.run("issue", stage.roster, *run, code=code)


def a_redis_with_a_password(stage: Stage) -> None:
    stage.write_roster(5)
    (stage.root / "redis").mkdir()
    with redis_server(stage.root / "redis", password=PASSWORD) as port, stage.sandbox() as sandbox:
        run = ("--base-url", sandbox.url, *QUICK)
        stage.environ["BATCH_ISSUER_QUOTA"] = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        stage.run_many(["issue", stage.roster, *run], ["quota", *run], codes=[0, 0], options=["-X", "dev"])


def a_redis_that_cannot_be_used(stage: Stage) -> None:
    """A wrong address in many ways; no server; a refused password; a server that stops midway."""
    stage.write_roster(40)
    (stage.root / "redis").mkdir()
    right = PASSWORD[::-1]
    stage.known["password"].add(right)
    with stage.sandbox(script="ok*5,hang*") as sandbox:
        run = ("--base-url", sandbox.url, "--timeout", "500ms", "--give-up-after", "1s")
        for address in (
            f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0",
            f"redis://user:{PASSWORD}@host.invalid/0",
            f"redis://user:{PASSWORD}@127.0.0.1:99999/0",
            f"redis://user:{PASSWORD}@127.0.0.1/none",
            f"redis://127.0.0.1:{free_port()}/0?password={PASSWORD}&nonsense={PASSWORD}",
            f"redis://us@er:{PASSWORD}@[::1/0",
            PASSWORD,
        ):
            stage.environ["BATCH_ISSUER_QUOTA"] = address
            stage.run("issue", stage.roster, *run, *QUICK, code=2)
        with contextlib.ExitStack() as both:
            with redis_server(stage.root / "redis", password=right) as port:
                stage.environ["BATCH_ISSUER_QUOTA"] = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
                stage.run("issue", stage.roster, *run, *QUICK, code=2)
                stage.environ["BATCH_ISSUER_QUOTA"] = f"redis://:{right}@127.0.0.1:{port}/0"
                running = both.enter_context(stage.start("issue", stage.roster, *run, *QUICK))
                wait_until(lambda: len(sandbox.ledger) > 5, "requests")
            running.end(4)


def a_folder_that_vanishes(stage: Stage) -> None:
    """The results are rescued elsewhere."""
    stage.write_roster(30)
    folder = stage.work / "deep"
    folder.mkdir()
    command = ("issue", stage.roster, "-o", folder / "depot.results.csv", "--timeout", "500ms")
    with waiting_in_vain(stage, *command) as started:
        folder.rename(stage.work / "moved")
        started.end(4)
    assert re.search(r"all results are in \S+batch-issuer-", started.stderr())


def a_disk_that_is_full(stage: Stage) -> None:
    """Space was reserved for the results, none is left for the journal; then none for the results either."""
    stage.write_roster(60)
    full = """
import errno, os, resource
import batch_issuer.results.atomic_file as replacement
resource.setrlimit(resource.RLIMIT_FSIZE, (37_500, 37_500))
write, calls = replacement.write_csv, 0
def once(*arguments):
    global calls
    calls += 1
    if calls == 2:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write(*arguments)
replacement.write_csv = once
"""
    with stage.sandbox(script=f"ok*30{',500,500,ok' * 30}", latency=(0.01, 0.02)) as sandbox:
        run = ("--base-url", sandbox.url, *QUICK, "--concurrency", "4", "--quota", "process")
        output = stage.run_many(
            ["issue", stage.roster, *run], ["retry", stage.results, *run], before=full, codes=[4, 4]
        )
    assert "File too large" in output
    assert "all is kept in" in output


# Each in turn raises with all the secrets that its arguments hold.
CRASHES = """
import importlib, os
from batch_issuer.cli import main

class Crash:
    def __init__(self, place):
        module, _, path = place.partition(":")
        *parts, self.name = path.split(".")
        self.owner = importlib.import_module(module)
        for part in parts:
            self.owner = getattr(self.owner, part)
        self.original = getattr(self.owner, self.name)

    def __enter__(self):
        setattr(self.owner, self.name, lambda *arguments, **options: self.fail(arguments))

    def __exit__(self, *_):
        setattr(self.owner, self.name, self.original)

    def fail(self, arguments):
        found = [os.environ["SAMSARA_API_TOKEN"], before]
        for one in arguments:
            found += [one] if isinstance(one, (str, bytes)) else [getattr(one, "token", ""), getattr(one, "code", "")]
        raise RuntimeError(f"crashed with {found}")

import batch_issuer.reporting.progress, batch_issuer.pipeline.backoff
batch_issuer.reporting.progress.LINE_EVERY = batch_issuer.pipeline.backoff.BACKOFF_BASE = 0.01
first, *commands = json.load(open(sys.argv[1]))
main(first)
before = open("depot.results.csv").read()
for place in os.environ["PLACES"].split():
    with Crash(place):
        for arguments in commands:
            print(place, main(arguments))
sys.exit()
"""

CRASHING_PLACES = (
    "batch_issuer.settings.run_settings:Settings.__post_init__",
    "batch_issuer.jobs.planning:read_table",
    "batch_issuer.jobs.running:open_client",
    "batch_issuer.quota.opening:organization",
    "batch_issuer.api.client:Client.issue",
    "batch_issuer.api.client:read_reply",
    "batch_issuer.pipeline.run:judge",
    "batch_issuer.pipeline.run:new_code",
    "batch_issuer.pipeline.attempts:Attempts.issued",
    "batch_issuer.pipeline.attempts:Attempts.intent",
    "batch_issuer.pipeline.attempts:Attempts._without_token",
    "batch_issuer.quota.quota:Quota.answered",
    "batch_issuer.quota.quota:Quota.lost",
    "batch_issuer.quota.sqlite_leases:SqliteLeases.acquire",
    "batch_issuer.results.journal:guarded",
    "batch_issuer.results.journal:Journal.record",
    "batch_issuer.results.journal:Journal.in_place",
    "batch_issuer.results.destination:composed",
    "batch_issuer.results.destination:read_results",
    "batch_issuer.reporting.progress:Progress._count",
    "batch_issuer.reporting.progress:Progress._state",
    "batch_issuer.cli.issuing:print_results",
    "batch_issuer.cli.messages:counts_text",
    "batch_issuer.cli.commands:status_lines",
)


def bugs(stage: Stage) -> None:
    """Internal code raises an unexpected exception with all secrets in its text."""
    stage.write_roster(4)
    stage.environ |= {"PYTHONASYNCIODEBUG": "1", "PLACES": " ".join(CRASHING_PLACES)}
    with stage.sandbox(latency=(0.02, 0.04), faults={"lost": 0.3}, seed=1) as sandbox:
        run = (stage.roster, "--base-url", sandbox.url, *QUICK)
        again = ["issue", *run, "-o", "more.results.csv", "--overwrite"]
        output = stage.run_many(
            ["issue", *run], again, ["status", stage.results], before="import json, sys\n" + CRASHES
        )
    assert output.count("unexpected error (RuntimeError at ") > len(CRASHING_PLACES) // 2


@dataclass(frozen=True)
class Scenario:
    """``play`` it; ``issues``: the search must then find tokens and codes where they belong."""

    name: str
    play: Callable[[Stage], None]
    issues: bool = True
    soak: bool = False


FAULTS = ("reset", "lost", "hang", "slow", "truncated", "html", "badjson", "shape")
FAULTS += tuple(map(str, (400, 401, 402, 403, 404, 405, 407, 408, 409, 413, 418, 422, 425, 429, 451, 499)))
FAULTS += tuple(map(str, (500, 501, 502, 503, 504, 511, 599)))

SCENARIOS = (
    Scenario("success", success),
    Scenario("every fault", every_fault_in_one_run),
    Scenario("a server that echoes", partial(a_server_that_echoes, KEY), issues=False),
    Scenario("a server that echoes another kind of key", partial(a_server_that_echoes, ODD_KEY), False, soak=True),
    Scenario("signals and kills", signals_and_kills),
    Scenario("kept aside", kept_aside, soak=True),
    Scenario("corrupted results", partial(corrupted_results, [(2, -1), (2, 1), (2, 3), (3, 3), (3, 4), (1, -1)])),
    Scenario("expired and purged", expired_and_purged, soak=True),
    Scenario("a proxy with a password", a_proxy_with_a_password),
    Scenario("a proxy that cannot be used", a_proxy_that_cannot_be_used, issues=False, soak=True),
    Scenario("a Redis with a password", a_redis_with_a_password),
    Scenario("a Redis that cannot be used", a_redis_that_cannot_be_used, soak=True),
    Scenario("a folder that vanishes", a_folder_that_vanishes),
    Scenario("a full disk", a_disk_that_is_full),
    Scenario("bugs", bugs),
    Scenario("results corrupted in every way", partial(corrupted_results, EVERY_CHANGE), soak=True),
    *(Scenario(f"{fault} for every row", partial(one_fault_for_every_row, fault), soak=True) for fault in FAULTS),
)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Stage]]]:
    """The scenarios that are selected in this session, run at once."""

    def play(scenario: Scenario, root: Path) -> Stage:
        stage = Stage(root)
        scenario.play(stage)
        return stage

    wanted = [item.callspec.params["scenario"] for item in request.session.items if _plays(item)]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(PARALLEL) as threads:
        yield {one.name: threads.submit(play, one, tmp_path_factory.mktemp("stage", numbered=True)) for one in wanted}
        threads.shutdown(cancel_futures=True)


def _plays(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == test_no_secret_is_left_or_shown_outside_the_results.__name__


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(one, id=one.name, marks=[pytest.mark.soak] if one.soak else []) for one in SCENARIOS],
)
def test_no_secret_is_left_or_shown_outside_the_results(scenario: Scenario, played: dict[str, Future[Stage]]) -> None:
    """The API token and the passwords are nowhere, tokens and codes in results files only; no traceback is shown."""
    stage = played[scenario.name].result()
    pieces = stage.pieces()
    assert "\n".join(leaks(pieces, stage.known)) == ""
    assert any(piece.where == "cmdline of a process" for piece in pieces) or sys.platform != "linux"
    output = [piece for piece in pieces if piece.where.startswith("output/")]
    assert [piece.where for piece in output if b"Traceback" in piece.data] == []
    if scenario.play is not bugs:
        assert [piece.where for piece in output if b"this is a bug" in piece.data] == []
    if scenario.issues:  # what the search sees where it may be
        seen = [found_in(piece, stage.known) for piece in pieces if piece.may_contain_tokens]
        assert set.union(*seen) == {"token", "code"}


# --- the library


@dataclass
class Heard:
    """What a program that uses the library may show or log."""

    error: BaseException | None
    log: str
    known: Known = field(repr=False)


def listen(job: Any, folder: Path, **options: Any) -> Heard:
    """Run a job as a program that logs everything, in asyncio's debug mode."""
    known: Known = {"API token": {KEY}, "password": {PASSWORD}, "token": set(), "code": set()}
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    error: BaseException | None = None

    async def main() -> None:
        async with Sandbox(api_token=KEY, limiter="none", latency=(0.0, 0.02), **options) as sandbox:
            settings = Settings(api_token=Secret(KEY), base_url=sandbox.url, rate=Rate(5000, 1.0), quota="process")
            try:
                await job(settings, folder, sandbox)
            finally:
                known["token"] |= {entry.token for entry in sandbox.ledger} - {""}
                known["code"] |= {entry.code for entry in sandbox.ledger}

    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        asyncio.run(main(), debug=True)
    except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001 - any exception is searched
        error = caught
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return Heard(error, stream.getvalue(), known)


def fleet(count: int = 12) -> Roster:
    rows = "".join(f"{700000 + number},{PASSWORD}\n" for number in range(count))
    return Roster.from_bytes(f"Driver ID,PIN\n{rows}".encode(), "depot.csv")


async def issued_and_retried(settings: Settings, folder: Path, _: Sandbox) -> None:
    await issue_file(fleet(), settings, folder / "depot.results.csv")
    await retry_file(folder / "depot.results.csv", replace(settings, min_validity=3600.0))
    await issue_frame(fleet().frame, settings)


async def an_observer_that_fails(settings: Settings, folder: Path, _: Sandbox) -> None:
    """With an error that shows everything it received."""

    def observe(event: object) -> None:
        raise RuntimeError(f"{event} {event!r}")

    await issue_file(fleet(), settings, folder / "depot.results.csv", observe=observe)


async def a_clock_that_fails(settings: Settings, folder: Path, _: Sandbox) -> None:
    def clock() -> Any:
        raise RuntimeError("no time")

    with Destination(folder / "depot.results.csv") as destination:
        batch = destination.begin(fleet(), Validity.at_least(300))
        async with open_client(settings) as client, open_quota(settings) as quota:
            with closing(destination.open_journal(batch)) as journal:
                await Run(batch.drivers, settings, client, quota, journal, wall_clock=clock).run()


async def cancelled_midway(settings: Settings, folder: Path, sandbox: Sandbox) -> None:
    task = asyncio.ensure_future(issue_file(fleet(), replace(settings, concurrency=2), folder / "depot.results.csv"))
    while len(sandbox.ledger) < 4:  # noqa: ASYNC110 - the sandbox has no event for it
        await asyncio.sleep(0.001)
    task.cancel()
    await task


async def a_folder_removed_midway(settings: Settings, folder: Path, sandbox: Sandbox) -> None:
    (folder / "deep").mkdir()
    results = folder / "deep" / "depot.results.csv"
    task = asyncio.ensure_future(issue_file(fleet(60), replace(settings, concurrency=2), results))
    while len(sandbox.ledger) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    shutil.rmtree(folder / "deep")
    await task


async def corrupted_and_retried(settings: Settings, folder: Path, _: Sandbox) -> None:
    path = folder / "depot.results.csv"
    await issue_file(fleet(), settings, path)
    header, *body = table(path)
    write_table(path, [header, *(shifted(row, 1, -1) for row in body)])
    await retry_file(path, settings)


async def begun_where_tokens_are(settings: Settings, folder: Path, _: Sandbox) -> None:
    await issue_file(fleet(), settings, folder / "depot.results.csv")
    await issue_file(fleet(), settings, folder / "depot.results.csv")


async def a_redis_that_is_not_there(settings: Settings, folder: Path, _: Sandbox) -> None:
    address = Secret(f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0")
    await issue_file(fleet(), replace(settings, quota=address), folder / "depot.results.csv")


LIBRARY: dict[Any, type[BaseException] | None] = {
    issued_and_retried: None,
    an_observer_that_fails: RuntimeError,
    a_clock_that_fails: RuntimeError,
    cancelled_midway: asyncio.CancelledError,
    a_folder_removed_midway: StorageError,
    corrupted_and_retried: ResultsError,
    begun_where_tokens_are: ResultsError,
    a_redis_that_is_not_there: SettingsError,
}


def texts_of(error: BaseException) -> Iterator[Piece]:
    """Every text of an exception, except the values of local variables."""
    yield Piece("str of the exception", str(error).encode())
    yield Piece("repr of the exception", repr(error).encode())
    yield Piece("its traceback", "".join(traceback.format_exception(error)).encode())
    if isinstance(error, BatchIssuerError):
        yield Piece("its hint", f"{error.message} {error.hint} {error.args}".encode())
    for before in (error.__cause__, error.__context__):
        yield from texts_of(before) if before else ()


@pytest.mark.parametrize("job", LIBRARY, ids=lambda job: job.__name__.replace("_", " "))
def test_a_program_that_logs_everything_logs_no_secret(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither exceptions, nor loggers at DEBUG, nor asyncio's debug mode show one."""
    monkeypatch.setattr("batch_issuer.quota.redis_leases.RETRY_INTERVAL", 0.01)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    heard, kind = listen(job, tmp_path), LIBRARY[job]
    assert heard.error is None if kind is None else type(heard.error) is kind
    shown = "".join(capfd.readouterr())
    pieces = [Piece("the log", heard.log.encode()), Piece("stdout or stderr", shown.encode())]
    assert leaks([*pieces, *(texts_of(heard.error) if heard.error else [])], heard.known) == []
    assert "asyncio" in heard.log or "selector" in heard.log


async def everything_represented(settings: Settings, folder: Path, sandbox: Sandbox) -> dict[str, object]:
    """Every object that a caller can get, full of secrets."""
    path, events = folder / "depot.results.csv", []
    settings = replace(
        settings, quota=f"redis://user:{PASSWORD}@127.0.0.1/0", proxy=Secret(f"http://user:{PASSWORD}@x")
    )
    plain = replace(settings, quota="process", proxy=None)
    result = await issue_file(fleet(), plain, path)
    with Destination(path) as destination:
        batch = destination.reopen(Validity.at_least(3600, real=False))
        assert batch.drivers[0].before
        journal = destination.open_journal(batch)
        results = read_results(path)
        async with open_client(plain) as client, open_quota(plain) as quota:
            run = Run(batch.drivers, plain, client, quota, journal, observe=events.append)
            await run.run()
            reply = await client.issue(batch.drivers[0].identifier, "CODEmarked7gQ2xV9mZt4Lw8R")
            found = locals() | {"summary": status_of(results, datetime.now(UTC))}
            with pd.option_context("display.max_columns", None, "display.width", 1000):  # as on a wide terminal
                described = {name: f"{one!r} {one!s}" for name, one in found.items() if name != "folder"}
            described |= {"several": repr([result.outcomes, batch.outcomes, run.outcomes, client._session, quota])}
        journal.close()
    return described


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    """Settings, drivers, outcomes, replies, events, reports, results, and all objects that use them."""
    described: dict[str, Any] = {}

    async def job(*arguments: Any) -> None:
        described.update(await everything_represented(*arguments))

    heard = listen(job, tmp_path)
    assert heard.error is None
    assert len(heard.known["token"]) == 25
    assert {"settings", "result", "batch", "run", "journal", "results", "client", "quota", "reply", "events"} < set(
        described
    )
    assert leaks((Piece(f"repr of {name}", text.encode()) for name, text in described.items()), heard.known) == []


# --- that the search finds what there is

TOKEN = "sandbox-k3Jx_9Qm-Ae7Lp2Rt5Vb8Wc1Yd4Zf6Gh"  # noqa: S105 - invented
CODE = "Kq8mZt3xWb5nRv7cTd2fLp9s"

PLANTS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda secret: f"a {secret} b".encode(),
    "upper case": lambda secret: secret.upper().encode(),
    "lower case": lambda secret: secret.lower().encode(),
    "within a word": lambda secret: f"abc{secret}def".encode(),
    "URL-encoded": lambda secret: f"http://x/?key={quote(secret, safe='')}&y".encode(),
    "hexadecimal": lambda secret: secret.encode().hex().encode(),
    "Base64 of Authorization": lambda secret: b64encode(f"Bearer {secret}".encode()),
    "Base64 of a user's password": lambda secret: b64encode(f"user:{secret}".encode()),
    "Base64 alone": lambda secret: b64encode(secret.encode()),
    "Base64 before something": lambda secret: b64encode(f"ab{secret}:more".encode()),
    "Base64 for URLs": lambda secret: b64encode(f"abc{secret}".encode(), altchars=b"-_"),
    "over two lines": lambda secret: f"{secret[:9]}\n{secret[9:]}".encode(),
    "over two indented lines": lambda secret: f"{secret[:14]}\r\n    {secret[14:]}".encode(),
    "a quoted text in two parts": lambda secret: f"('{secret[:11]}'\n '{secret[11:]}')".encode(),
    "repr of bytes": lambda secret: repr(secret.encode()).encode(),
    "JSON": lambda secret: json.dumps({"message": f"\u00e9 {secret}"}).encode(),
    "UTF-16": lambda secret: secret.encode("utf-16"),
    "without its end": lambda secret: f"{secret[:20]}...".encode(),
    "without its beginning": lambda secret: f"...{secret[-12:]}".encode(),
    "in binary": lambda secret: b"\xff\x00\x01" + secret.encode() + b"\x80\x02",
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
@pytest.mark.parametrize(
    "secret", [KEY, ODD_KEY, PASSWORD, TOKEN, CODE], ids=["key", "odd key", "password", "token", "code"]
)
def test_the_search_finds_a_secret_in_every_form_among_much_else(secret: str, plant: Callable[[str], bytes]) -> None:
    known: Known = {"API token": {secret}}
    text = b"".join(b"line %d of a log\n" % number for number in range(500))
    assert leaks([Piece("a log", text + plant(secret) + text)], known) == ["API token in a log"]
    assert leaks([Piece("a log", text + plant(secret[::-1]) + text)], known) == []


def test_files_with_tokens_must_not_contain_the_api_token() -> None:
    known: Known = {"API token": {KEY}, "token": {TOKEN}, "code": {CODE}}
    piece = Piece("results", f"{KEY},{TOKEN},{CODE}".encode())
    assert leaks([piece], known) == ["API token in results", "code in results", "token in results"]
    assert leaks([replace(piece, may_contain_tokens=True)], known) == ["API token in results"]
    assert leaks([Piece(f"{TOKEN}.results.csv", b"", may_contain_tokens=True)], known) == ["token in a file name"]


LEAKING = """
import os, pathlib, subprocess, sys, time
work, state = pathlib.Path("."), pathlib.Path(os.environ["XDG_STATE_HOME"])
token, key = os.environ["TOKEN"], os.environ["SAMSARA_API_TOKEN"]
print(token)
print(key, file=sys.stderr)
(work / "depot.results.csv").write_text(token)
(work / "depot.results.csv.partial.writing").write_text(token)
(work / "depot.results.csv.log").write_text(token)
(work / "for-a-moment.lock").write_text(token)
(state / token).mkdir()
child = "import sys, time; sys.stdin.read()"
with subprocess.Popen([sys.executable, "-c", child, key], stdin=subprocess.PIPE) as process:
    while not pathlib.Path("seen").exists():
        time.sleep(0.01)
(work / "for-a-moment.lock").unlink()
"""


def test_the_stage_sees_what_a_process_and_its_children_show_and_leave(tmp_path: Path) -> None:
    """Including what existed only while it ran."""
    stage = Stage(tmp_path / "stage")
    stage.known["token"].add(TOKEN)
    stage.environ["TOKEN"] = TOKEN

    def seen() -> set[str]:
        return set(leaks(stage.pieces(), stage.known))

    with stage.start(python=["-c", LEAKING]) as started:
        expected = {"API token in cmdline of a process"} if sys.platform == "linux" else set()
        wait_until(lambda: seen() >= expected | {"token in work/for-a-moment.lock"}, "samples")
        (stage.work / "seen").touch()
        started.end(0)
    assert seen() == expected | {
        "API token in output/1.stderr",
        "token in a file name",
        "token in output/1.stdout",
        "token in work/depot.results.csv.log",
        "token in work/for-a-moment.lock",
    }
