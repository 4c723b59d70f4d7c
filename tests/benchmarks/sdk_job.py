"""A script with the official SDK that does the job of ``batch-issuer issue``: a roster in, a CSV of tokens out.

    SAMSARA_API_TOKEN=… python tests/benchmarks/sdk_job.py URL ROSTER OUT

It imports only what it needs, because its start is measured too.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys

import httpx
from samsara import AsyncSamsara

CODE = "benchmark-code-1234"


async def main(url: str, roster: str, out: str) -> None:
    with open(roster, encoding="utf-8", newline="") as file:  # noqa: ASYNC230, PTH123 - as users would write it
        drivers = [int(row["Driver ID"]) for row in csv.DictReader(file)]
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        client = AsyncSamsara(base_url=url, token=os.environ["SAMSARA_API_TOKEN"], httpx_client=http)
        requests = (client.auth_token_for_driver.auth_token(code=CODE, driver_id=driver) for driver in drivers)
        replies = await asyncio.gather(*requests)
    with open(out, "w", encoding="utf-8", newline="") as file:  # noqa: ASYNC230, PTH123
        writer = csv.writer(file)
        writer.writerow(["Driver ID", "token", "code", "expires"])
        for driver, reply in zip(drivers, replies, strict=True):
            writer.writerow([driver, reply.data.token, CODE, reply.data.expiration_time])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
