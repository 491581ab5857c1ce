"""Moving average of each symbol over its last trades, from an exchange's own messages.

An event is one message of the exchange, as the WebSocket manager passes it on; its attribute `exchange` says whose.
The answer has one entry for each trade of the message. Other messages have no answer.
"""

import base64
import json
from collections import deque

WINDOW = 20

windows = {}


def Process(event):
    message = json.loads(base64.b64decode(event["data"]["Payload"]))
    exchange = event["exchange"]
    trades = READERS[exchange](message)
    if not trades:
        return None
    return {
        "type": f"com.virtufin.exchange.{exchange}.ticker.update",
        "data": {"exchange": exchange, "ticks": [averaged(exchange, trade) for trade in trades]},
    }


def averaged(exchange, trade):
    prices = windows.setdefault((exchange, trade["symbol"]), deque(maxlen=WINDOW))
    prices.append(float(trade["price"]))
    trade["average"] = round(sum(prices) / len(prices), 6)
    trade["samples"] = len(prices)
    return trade


def binance(message):
    # Combined streams wrap each message.
    message = message.get("data", message)
    if message.get("e") != "trade":
        return []
    return [
        {
            "symbol": message["s"],
            "price": message["p"],
            "size": message["q"],
            "trade_id": message["t"],
            "time_ns": epoch_ns(message["T"]),
        }
    ]


def alpaca(message):
    return [
        {
            "symbol": trade["S"],
            "price": str(trade["p"]),
            "size": str(trade["s"]),
            "trade_id": trade["i"],
            "time_ns": rfc3339_ns(trade["t"]),
        }
        for trade in message
        if trade.get("T") == "t"
    ]


READERS = {"binance": binance, "alpaca": alpaca}


def epoch_ns(number):
    # Milliseconds, or microseconds where a client asked for them.
    return number * 1_000 if number > 100_000_000_000_000 else number * 1_000_000


def rfc3339_ns(text):
    """Nanoseconds since 1970 of `2026-01-31T12:00:00.123456789Z`."""
    date, time = text.rstrip("Z").split("T")
    time, _, fraction = time.partition(".")
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, time.split(":"))
    seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


def days(year, month, day):
    """Days since 1970-01-01 of the civil calendar."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
