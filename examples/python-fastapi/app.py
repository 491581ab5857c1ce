"""Orders in FastAPI with the official Dapr SDK: publish, subscribe, state, invoke, secret.

The sidecar's components carry Dapr's default names, so nothing here knows which program runs beside it.
"""

import os

import uvicorn
from dapr.clients import DaprClient
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

APP_ID = "orders"
STORE = "statestore"
PUBSUB = "pubsub"
TOPIC = "orders"
SECRETS = "envsecretstore"

app = FastAPI()
dapr_app = DaprApp(app)


class Order(BaseModel):
    """What a customer asks for, and how far it is."""

    id: str
    item: str
    status: str = "accepted"


class Event(BaseModel):
    """The part of a CloudEvent that this app reads."""

    data: Order


@app.post("/orders", status_code=202)
def accept(order: Order) -> Order:
    """Keeps the order and announces it."""
    with DaprClient() as client:
        client.save_state(STORE, order.id, order.model_dump_json(), state_metadata={"contentType": "application/json"})
        client.publish_event(PUBSUB, TOPIC, order.model_dump_json(), data_content_type="application/json")
    return order


@dapr_app.subscribe(pubsub=PUBSUB, topic=TOPIC, route="/events/orders")
def ship(event: Event) -> dict[str, str]:
    """Ships what was announced. An event can come twice: the outcome is the same."""
    order = event.data.model_copy(update={"status": "shipped"})
    with DaprClient() as client:
        client.save_state(STORE, order.id, order.model_dump_json(), state_metadata={"contentType": "application/json"})
    return {"status": "SUCCESS"}


@app.get("/orders/{order_id}")
def order(order_id: str) -> Order:
    """Reads the order back."""
    with DaprClient() as client:
        found = client.get_state(STORE, order_id)
    if not found.data:
        raise HTTPException(404, f"no order {order_id}")
    return Order.model_validate_json(found.data)


@app.get("/hello/{name}")
def hello(name: str) -> dict[str, str]:
    """Called by other apps, through their sidecar and ours."""
    return {"text": f"Hello, {name}"}


@app.get("/greeting")
def greeting() -> dict[str, str]:
    """Invokes an app by its id (this one) and reads a secret (an environment variable of the sidecar)."""
    with DaprClient() as client:
        answer = client.invoke_method(APP_ID, "hello/Ada", data=b"", http_verb="GET")
        secret = client.get_secret(SECRETS, "GREETING_MARK").secret
    return {"text": answer.json()["text"] + secret["GREETING_MARK"]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("APP_PORT", "8000")), log_level="warning")
