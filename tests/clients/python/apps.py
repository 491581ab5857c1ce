"""The two apps beside the sidecars: `one` speaks HTTP (FastAPI), `two` speaks gRPC. Both note what reaches them."""

import json
import os
import threading
from collections import defaultdict

import uvicorn
from dapr.clients.grpc._response import TopicEventResponse
from dapr.ext.fastapi import DaprApp
from dapr.ext.grpc import App, BindingRequest, InvokeMethodRequest, InvokeMethodResponse
from fastapi import Body, FastAPI, Request, Response

# What arrived, by "<app>:<topic or binding>".
arrived: dict[str, list] = defaultdict(list)

web = FastAPI()
dapr_web = DaprApp(web)


@dapr_web.subscribe(pubsub="pubsub", topic="orders")
def orders(event=Body()):
    arrived["one:orders"].append(event)


@dapr_web.subscribe(pubsub="pubsub", topic="unsteady", route="/unsteady-events")
def unsteady(event=Body()):
    arrived["one:unsteady"].append(event)
    # The first delivery is refused and must come again.
    return {"status": "RETRY" if len(arrived["one:unsteady"]) == 1 else "SUCCESS"}


@dapr_web.subscribe(pubsub="pubsub", topic="broken", dead_letter_topic="graveyard")
def broken(response: Response):
    return {"status": "DROP"}


@dapr_web.subscribe(pubsub="pubsub", topic="graveyard")
def graveyard(event=Body()):
    arrived["one:graveyard"].append(event)


@web.post("/tick")
def tick():
    arrived["one:tick"].append(True)


@web.api_route("/echo", methods=["GET", "POST", "PUT"])
async def echo(request: Request):
    body = await request.body()
    return {"app": "one", "verb": request.method, "text": body.decode(), "query": dict(request.query_params)}


@web.post("/teapot")
def teapot():
    return Response("short and stout", status_code=418, media_type="text/plain")


callbacks = App()


@callbacks.method("echo")
def grpc_echo(request: InvokeMethodRequest):
    answer = {"app": "two", "text": request.text(), "content": request.content_type}
    return InvokeMethodResponse(json.dumps(answer), "application/json")


@callbacks.subscribe("pubsub", "orders")
def grpc_orders(event):
    arrived["two:orders"].append(json.loads(event.Data()))


@callbacks.subscribe("pubsub", "unsteady")
def grpc_unsteady(event):
    arrived["two:unsteady"].append(event.EventID())
    return TopicEventResponse("retry" if len(arrived["two:unsteady"]) == 1 else "success")


@callbacks.binding("tick")
def grpc_tick(request: BindingRequest):
    arrived["two:tick"].append(True)


def start() -> None:
    """Serves both apps on the ports the sidecars were told of."""
    server = uvicorn.Server(
        uvicorn.Config(web, host="127.0.0.1", port=int(os.environ["APP_PORT"]), log_level="warning")
    )
    threading.Thread(target=server.run, daemon=True).start()
    port = int(os.environ["TWO_APP_PORT"])
    threading.Thread(target=callbacks.run, args=(port, "127.0.0.1"), daemon=True).start()
