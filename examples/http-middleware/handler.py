"""A handler for middleware.http.external, in Python's standard library alone.

It refuses requests without a tenant, adds a header to the others, and gives errors of the app another shape.
"""

import argparse
import base64
import http.server
import json
import os
import socketserver


def on_request(question):
    """Returns None to let a request go on as it is, or a dict of changes."""
    headers = question["headers"]
    if "x-fail" in headers:
        raise ValueError("asked to fail")
    if "x-tenant" not in headers:
        text = json.dumps({"reason": "x-tenant is missing", "trace": question.get("traceId")})
        return {"respond": {"status": 400, "headers": {"content-type": "application/json"}, "body": encode(text)}}
    return {"headers": {"x-handled-by": question["handler"], "x-tenant": headers["x-tenant"][0].lower()}}


def on_response(question):
    """The same for an answer; asked only where the component's `responses` says so."""
    if question["status"] < 500:
        return None
    cause = base64.b64decode(question["body"]).decode("utf-8", "replace")
    text = json.dumps({"title": "the shop is closed", "detail": cause})
    return {"headers": {"content-type": ["application/problem+json"]}, "body": encode(text)}


def encode(text):
    return base64.b64encode(text.encode()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        phases = {"/request": on_request, "/response": on_response}
        try:
            changes = phases[self.path](question)
            status = 204 if changes is None else 200
        except Exception as error:
            status, changes = 500, {"error": f"{type(error).__name__}: {error}"}
        body = b"" if changes is None else json.dumps(changes).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    path = parser.parse_args().socket
    if os.path.exists(path):
        os.remove(path)
    os.umask(0o177)
    with Server(path, Handler) as server:
        server.serve_forever()
