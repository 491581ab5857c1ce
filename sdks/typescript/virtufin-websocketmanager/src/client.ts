// The WebSocket manager: connections to the outside.
import { type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { answered, type ClientOptions, ServiceClient } from "virtufin-common";
import {
  type ConnectRequestSchema,
  type ConnectResponse,
  type WebSocketConnection,
  WebSocketManager,
} from "./proto/websocketmanager_pb.js";

/** The WebSocket manager's port. */
export const DEFAULT_PORT = 5202;
/** How long the service awaits the answer to a message unless told otherwise, in milliseconds (I2.3). */
export const SEND_TIMEOUT_MS = 10_000;

/** `virtufin.WebSocketManager`. */
export class WebSocketManagerClient extends ServiceClient {
  readonly #stub: Client<typeof WebSocketManager>;

  constructor(options: ClientOptions = {}) {
    super(options, DEFAULT_PORT);
    this.#stub = createClient(WebSocketManager, this.transport);
  }

  /** Opens a connection to a `ws` or `wss` URL; gives its id and status. */
  async connect(request: MessageInitShape<typeof ConnectRequestSchema>): Promise<ConnectResponse> {
    return answered(this.#stub.connect(request, this.unary()));
  }

  /** The connections that carry all of these tags; an empty value stands for any. */
  async list(tags: Record<string, string> = {}): Promise<WebSocketConnection[]> {
    const filters = Object.entries(tags).map(([key, value]) => ({ key, value }));
    return (await answered(this.#stub.list({ filters }, this.unary()))).connections;
  }

  /** Closes a connection. */
  async disconnect(id: string): Promise<void> {
    await answered(this.#stub.disconnect({ id }, this.unary()));
  }

  /** Sends a message and gives the one that answers it; the service awaits that for `timeoutMs`. */
  async send(id: string, message: Uint8Array, contentType = "", timeoutMs = SEND_TIMEOUT_MS): Promise<Uint8Array> {
    // 0 would ask for the service's default.
    const request = { id, message, contentType, timeoutMs: Math.max(1, Math.round(timeoutMs)) };
    return (await answered(this.#stub.send(request, this.unary(timeoutMs)))).response;
  }

  /** Sends a message as it is. */
  async sendRaw(id: string, message: Uint8Array, contentType = ""): Promise<void> {
    await answered(this.#stub.sendRaw({ id, message, contentType }, this.unary()));
  }

  /** Has every later message of the connection published to a topic. */
  async startPublish(id: string, topic: string): Promise<void> {
    await answered(this.#stub.startPublish({ id, topic }, this.unary()));
  }

  /** Ends that. */
  async stopPublish(id: string): Promise<void> {
    await answered(this.#stub.stopPublish({ id }, this.unary()));
  }

  /** Sets a tag; an empty value removes it. */
  async setTag(id: string, key: string, value: string): Promise<void> {
    await answered(this.#stub.setTag({ id, key, value }, this.unary()));
  }

  /** The value of a tag, if there is one. */
  async getTag(id: string, key: string): Promise<string | undefined> {
    const answer = await answered(this.#stub.getTag({ id, key }, this.unary()));
    return answer.found ? answer.value : undefined;
  }

  /** Replaces all tags. */
  async setTags(id: string, tags: Record<string, string>): Promise<void> {
    await answered(this.#stub.setTags({ id, tags }, this.unary()));
  }

  /** All tags. */
  async getTags(id: string): Promise<Record<string, string>> {
    return (await answered(this.#stub.getTags({ id }, this.unary()))).tags;
  }
}
