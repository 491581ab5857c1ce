// Just enough of gRPC-Web and protobuf for one method: virtufin.Pubsub/Subscribe. A program of several methods takes
// the package virtufin-gateway in its place.

const text = new TextDecoder();

/** Events of topics. `opened` is called when the gateway has taken the subscription. */
export async function* subscribe(gateway, topics, opened) {
  const answer = await fetch(`${gateway}/virtufin.Pubsub/Subscribe`, {
    method: "POST",
    headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" },
    body: frame(request(topics)),
  });
  fail(answer.headers);
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  opened();
  const reader = answer.body.getReader();
  let rest = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest = joined(rest, value);
    while (rest.length >= 5) {
      const length = new DataView(rest.buffer, rest.byteOffset).getUint32(1);
      if (rest.length < 5 + length) break;
      const body = rest.subarray(5, 5 + length);
      if (rest[0] & 0x80) {
        const lines = text.decode(body).split("\r\n").map((line) => line.split(/:\s*/, 2));
        return fail(new Map(lines.filter(([name]) => name)));
      }
      yield event(body);
      rest = rest.subarray(5 + length);
    }
  }
}

function fail(headers) {
  const status = headers.get("grpc-status");
  if (status && status !== "0") throw new Error(decodeURIComponent(headers.get("grpc-message") || `status ${status}`));
}

function joined(one, two) {
  if (!one.length) return two;
  const both = new Uint8Array(one.length + two.length);
  both.set(one);
  both.set(two, one.length);
  return both;
}

function frame(message) {
  const framed = new Uint8Array(5 + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, 5);
  return framed;
}

/** PubsubSubscribeRequest {repeated string topics = 1}. */
function request(topics) {
  const bytes = [];
  for (const topic of topics) {
    const name = new TextEncoder().encode(topic);
    bytes.push(0x0a, ...varint(name.length), ...name);
  }
  return new Uint8Array(bytes);
}

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 0x80);
  return [...bytes, number];
}

/** PubsubSubscribeResponse {string topic = 1; bytes data = 2; …}; what else there is, is passed over. */
function event(bytes) {
  const found = { topic: "", data: "" };
  let at = 0;
  const number = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag & 7;
    if (kind === 2) {
      const length = number();
      const part = bytes.subarray(at, at + length);
      if (tag >> 3 === 1) found.topic = text.decode(part);
      if (tag >> 3 === 2) found.data = text.decode(part);
      at += length;
    } else if (kind === 0) {
      number();
    } else {
      at += kind === 1 ? 8 : 4;
    }
  }
  return found;
}
