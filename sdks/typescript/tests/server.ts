// A server of gRPC-Web in this process that keeps what it is asked and answers what the test says.
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { DescMessage, DescMethod, DescService, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  Config,
  Gateway,
  type PublishRequest,
  Pubsub,
  PubsubSubscribeRequestSchema,
  type PubsubSubscribeResponse,
  PubsubSubscribeResponseSchema,
  State,
} from "virtufin-gateway";
import { WebSocketManager } from "virtufin-websocketmanager";
import { WorkManager } from "virtufin-workmanager";

const SUBSCRIBE = "virtufin.Pubsub.Subscribe";

export interface Call {
  /** Such as `virtufin.State.GetState`. */
  method: string;
  request: Message;
  headers: Headers;
}

type Answer = Message | Error;

export class Server {
  readonly calls: Call[] = [];
  /** By method; an empty message where there is none. */
  readonly answers = new Map<string, Answer>();
  /** By method, what a stream says before it ends. */
  readonly streams = new Map<string, Message[] | Error>();
  /** What a published event brings about on every open `Pubsub.Subscribe`. */
  replies: ((request: PublishRequest) => PubsubSubscribeResponse[]) | undefined;
  /** Subscriptions begun and ended, events published. */
  readonly order: string[] = [];
  readonly #subscribers = new Set<(event: PubsubSubscribeResponse) => void>();
  readonly #http: HttpServer;

  private constructor() {
    const handler = connectNodeAdapter({ routes: (router) => this.#routes(router) });
    this.#http = createServer((request, response) => {
      // The library keeps the head back until the first event; here the head says that the subscription stands.
      if (request.url === `/${SUBSCRIBE.replace(/\.(?=\w+$)/, "/")}` && !this.streams.has(SUBSCRIBE)) {
        void this.#subscribe(request, response);
        return;
      }
      handler(request, response);
    });
  }

  static async start(): Promise<Server> {
    const server = new Server();
    await new Promise<void>((resolve) => server.#http.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  answer<Desc extends DescMessage>(method: string, desc: Desc, value: MessageInitShape<Desc>): void {
    this.answers.set(method, create(desc, value));
  }

  /** The request of the last call. */
  last<Desc extends DescMessage>(desc: Desc): MessageShape<Desc> {
    const call = this.calls.at(-1);
    if (call?.request.$typeName !== desc.typeName) {
      throw new Error(`the last call was ${call?.method}`);
    }
    return call.request as MessageShape<Desc>;
  }

  /** Waits for an entry of `order`. */
  async until(entry: string): Promise<void> {
    while (!this.order.includes(entry)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #routes(router: ConnectRouter): void {
    for (const service of [Gateway, Pubsub, State, Config, WorkManager, WebSocketManager] as DescService[]) {
      for (const method of service.methods) {
        this.#route(router, method);
      }
    }
  }

  #route(router: ConnectRouter, method: DescMethod): void {
    const name = `${method.parent.typeName}.${method.name}`;
    const keep = (request: Message, context: HandlerContext) =>
      this.calls.push({ method: name, request, headers: context.requestHeader });
    if (method.methodKind === "server_streaming") {
      const streams = this.streams;
      router.rpc(method as DescMethod & { methodKind: "server_streaming" }, async function* (request, context) {
        keep(request as Message, context);
        const events = streams.get(name) ?? [];
        if (events instanceof Error) {
          throw events;
        }
        yield* events as never[];
      });
      return;
    }
    router.rpc(method as DescMethod & { methodKind: "unary" }, (request, context) => {
      keep(request as Message, context);
      if (name === "virtufin.Pubsub.PublishEvent" && this.replies !== undefined) {
        this.order.push("published");
        for (const reply of this.replies(request as PublishRequest)) {
          for (const tell of this.#subscribers) {
            tell(reply);
          }
        }
      }
      const answer = this.answers.get(name);
      if (answer instanceof Error) {
        throw answer;
      }
      return (answer ?? create(method.output)) as never;
    });
  }

  /** `Pubsub.Subscribe` by hand: the head at once, then every event as a frame until the client leaves. */
  async #subscribe(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const message = fromBinary(PubsubSubscribeRequestSchema, Buffer.concat(chunks).subarray(5));
    this.calls.push({ method: SUBSCRIBE, request: message, headers: new Headers() });
    const tell = (event: PubsubSubscribeResponse) => {
      const body = toBinary(PubsubSubscribeResponseSchema, event);
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(body.length, 1);
      response.write(Buffer.concat([prefix, body]));
    };
    response.on("close", () => {
      this.#subscribers.delete(tell);
      this.order.push("left");
    });
    this.#subscribers.add(tell);
    this.order.push("subscribed");
    response.writeHead(200, { "content-type": "application/grpc-web+proto" }).flushHeaders();
  }
}
