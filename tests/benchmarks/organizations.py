"""Many organizations in one run: does one wait for another, and can one process use the quotas of a thousand?

    .venv/bin/python tests/benchmarks/organizations.py                  (4 minutes)
    .venv/bin/python tests/benchmarks/organizations.py --organizations 200 --drivers 200

First, 40 organizations with 250 drivers each on a virtual clock, compared with the slowest of them alone: the real
command and client, and a sandbox for each organization, with different latencies. Then a thousand organizations at 100
requests a minute each in real time, with sandboxes in two other processes. Prints ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
from support.clock import Traffic
from support.faults import NetworkLoop

from batch_issuer.cli import main
from batch_issuer.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_MINUTE = 100


def settings(folder: Path, urls: list[str], drivers: int) -> Path:
    """The settings file, rosters and variables of the organizations; API tokens are ``token-0``, ``token-1`` …"""
    lines = ["[defaults]", 'quota = "process"', 'output = "{organization}.csv"']
    rows = "".join(f"{281474977000000 + number}\n" for number in range(drivers))
    for number, url in enumerate(urls):
        os.environ[f"KEY_{number}"] = f"token-{number}"
        (folder / f"{number}.roster").write_text(f"Driver ID\n{rows}")
        lines += [f"[organizations.org{number:04}]", f'base_url = "{url}"', f'token_env = "KEY_{number}"']
        lines += [f'roster_file = "{number}.roster"']
    file = folder / "batch-issuer.toml"
    file.write_text("\n".join(lines))
    return file


def on_virtual_clock(organizations: range, drivers: int) -> float:
    """Seconds that a run of these organizations takes; later ones have slower servers."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        traffic = Traffic(patch)
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: NetworkLoop(traffic)))
        boxes = [
            Sandbox(api_token=f"token-{place}", latency=(0.05, 0.1 + number / 200), seed=number)
            for place, number in enumerate(organizations)
        ]
        for box in boxes:
            runner.run(box.start())
        file = settings(Path(name), [box.url for box in boxes], drivers)
        patch.setattr("asyncio.run", runner.run)
        clock = SimpleNamespace(monotonic=runner.get_loop().time, time=time.time)
        patch.setattr("batch_issuer.sandbox.server.time", clock)
        began = runner.get_loop().time()
        command = ["issue", "--all"] if len(organizations) > 1 else ["issue", "--org", "org0000"]
        assert main([*command, "--quiet", "--config", str(file)]) == 0
        took = runner.get_loop().time() - began
        assert all(len(box.ledger) == drivers for box in boxes)
        for box in boxes:
            runner.run(box.stop())
        return took


_FARM = """
import asyncio, json, resource, sys
from batch_issuer.sandbox import Sandbox

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

async def main(numbers):
    boxes = [Sandbox(api_token=f"token-{number}", latency=(0.05, 0.15)) for number in numbers]
    for box in boxes:
        await box.start()
    print(json.dumps([box.url for box in boxes]), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    entries = [entry for box in boxes for entry in box.ledger]
    at = sorted(entry.at for entry in entries)
    print(json.dumps([len(at), at[0], at[-1], sum(entry.status == 429 for entry in entries)]), flush=True)

asyncio.run(main(range(int(sys.argv[1]), int(sys.argv[2]))))
"""


@contextmanager
def farm(first: int, last: int) -> Iterator[subprocess.Popen[str]]:
    """The sandboxes of organizations in one other process."""
    command = [sys.executable, "-c", _FARM, str(first), str(last)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def in_real_time(organizations: int, drivers: int) -> None:
    """Print how much of the quotas one process uses."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        half = organizations // 2
        farms = [stack.enter_context(farm(*span)) for span in ((0, half), (half, organizations))]
        file = settings(Path(name), [url for process in farms for url in answer(process)], drivers)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        command = [sys.executable, "-m", "batch_issuer", "issue", "--all", "--quiet", "--config", str(file)]
        code = subprocess.run(command, check=False).returncode
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seen = []
        for process in farms:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            seen.append(answer(process))
    requests = sum(count for count, *_ in seen)
    seconds = max(last for _, _, last, _ in seen) - min(first for _, first, _, _ in seen)
    rate, wanted = requests / seconds, organizations * PER_MINUTE / 60
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\n{organizations} organizations x {drivers} drivers at {PER_MINUTE}/min each, one process, real time:\n")
    print("| requests | 429s | exit code | requests/s | share of the quotas | whole run | CPU |")
    print("|---|---|---|---|---|---|---|")
    refused = sum(count for *_, count in seen)
    print(f"| {requests} | {refused} | {code} | {rate:.0f} | {rate / wanted:.2f} | {took:.0f} s | {cpu / took:.0%} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organizations", type=int, default=1000)
    parser.add_argument("--drivers", type=int, default=300)
    chosen = parser.parse_args()
    slowest, together = on_virtual_clock(range(39, 40), 250), on_virtual_clock(range(40), 250)
    print("40 organizations x 250 drivers, virtual clock:\n")
    print("| slowest alone | all together | together / slowest |\n|---|---|---|")
    print(f"| {slowest:.1f} s | {together:.1f} s | {together / slowest:.3f} |")
    in_real_time(chosen.organizations, chosen.drivers)
