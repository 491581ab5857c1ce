"""Prints the pipeline's prices as they come: `python prices.py [count]`.

Needs the packages below sdks/python, installed or by PYTHONPATH, and grpcio; `cargo xtask sdks --test` makes an
environment with that, target/venv-sdks.
"""

import asyncio
import json
import sys

from virtufin_gateway import GatewayClient

TOPICS = [f"act.exchange.{exchange}.ticker.update" for exchange in ("binance", "alpaca")]


async def main(count: int) -> None:
    async with GatewayClient.from_environment() as gateway:
        async with await gateway.subscribe(TOPICS) as events:
            async for event in events:
                for tick in json.loads(event.data)["ticks"]:
                    print(event.topic, tick["symbol"], tick["price"], tick["average"], flush=True)
                    count -= 1
                if count <= 0:
                    return


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2**31))
