// A connection to a service, and what every call over it has in common.
import type { CallOptions, Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ofCall, ofName } from "./errors.js";
import { API_VERSION, API_VERSION_HEADER } from "./version.js";

/** Where a service is and how it is called. */
export interface ClientOptions {
  /** A name or an address; `localhost` unless told. */
  host?: string;
  /** The port that speaks gRPC-Web. */
  port?: number;
  /** Over TLS. */
  secure?: boolean;
  /** How long a unary call may take, in milliseconds; streams have no limit. 30 000 unless told. */
  timeoutMs?: number;
  /** Another version of the contract than the one these packages are made for. */
  apiVersion?: string;
  /** What every call carries beside it. */
  metadata?: Record<string, string>;
  /** A transport made elsewhere, such as one of native gRPC in Node.js; host, port and secure are not looked at then. */
  transport?: Transport;
}

/** How long a unary call may take unless told otherwise, in milliseconds. */
export const TIMEOUT_MS = 30_000;

/** What the clients have in common. */
export class ServiceClient {
  /** Where calls go. */
  readonly baseUrl: string;
  /** What calls go over, for stubs of one's own. */
  readonly transport: Transport;
  readonly #timeoutMs: number;
  readonly #headers: Record<string, string>;

  constructor(options: ClientOptions, port: number) {
    const { host = "localhost", secure = false } = options;
    const place = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
    this.baseUrl = `${secure ? "https" : "http"}://${place}:${options.port ?? port}`;
    this.transport = options.transport ?? createGrpcWebTransport({ baseUrl: this.baseUrl });
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#headers = { ...options.metadata, [API_VERSION_HEADER]: options.apiVersion ?? API_VERSION };
  }

  /** Options of a unary call; `patienceMs` is how long the service itself may let it take. */
  protected unary(patienceMs = 0): CallOptions {
    return { headers: this.#headers, timeoutMs: this.#timeoutMs + patienceMs };
  }

  /** Options of a stream. */
  protected stream(signal?: AbortSignal): CallOptions {
    return { headers: this.#headers, ...(signal && { signal }) };
  }
}

/** The answer of a call, or the error that it came to. */
export async function answered<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw ofCall(error);
  }
}

/** An answer that carries a status instead of being one. */
export function succeeded(answer: { success: boolean; status: string; message: string } | undefined): void {
  // A service that says nothing more than the gRPC status says that it went well.
  if (answer !== undefined && !answer.success) {
    throw ofName(answer.status, answer.message);
  }
}

/** Events as they come. It begins at once; `opened` tells when the service has taken it. Leaving the loop ends it. */
export class Subscription<T> implements AsyncIterableIterator<T> {
  /** Resolves with the head of the answer, which says that the subscription stands; rejects with a refusal that comes in its place. */
  readonly opened: Promise<void>;
  readonly #events: AsyncIterator<T>;
  readonly #abort = new AbortController();
  #first: Promise<IteratorResult<T>> | undefined;
  #over = false;

  constructor(open: (signal: AbortSignal, onHeader: () => void) => AsyncIterable<T>) {
    let stands = () => {};
    const head = new Promise<void>((resolve) => {
      stands = resolve;
    });
    this.#events = open(this.#abort.signal, stands)[Symbol.asyncIterator]();
    // Nothing is sent before the first event is asked for.
    this.#first = this.#events.next();
    this.opened = Promise.race([head, this.#first.then(() => {})]).catch((error: unknown) => {
      throw ofCall(error);
    });
    // Who does not ask for it hears of it with the first event.
    this.opened.catch(() => {});
  }

  async next(): Promise<IteratorResult<T>> {
    if (this.#over) {
      return { done: true, value: undefined };
    }
    const event = this.#first ?? this.#events.next();
    this.#first = undefined;
    try {
      const result = await event;
      this.#over = result.done === true;
      return result;
    } catch (error) {
      const over = this.#over;
      this.#over = true;
      // What breaks because it was ended here is no error.
      if (over) {
        return { done: true, value: undefined };
      }
      throw ofCall(error);
    }
  }

  /** Ends it. */
  async return(): Promise<IteratorResult<T>> {
    this.#over = true;
    this.#first?.catch(() => {});
    this.#abort.abort();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
