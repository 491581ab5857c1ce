// The API gateway: calls to services by name, events, state, configuration.
import { type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { answered, type ClientOptions, NoReplyError, ofName, ServiceClient, Subscription, succeeded } from "virtufin-common";
import { Config, type ConfigService } from "./proto/config_pb.js";
import {
  Gateway,
  type MethodInfo,
  type MethodSchema,
  type SubscribeRequestSchema,
  type TopicEventRequest,
} from "./proto/gateway_pb.js";
import { type PublishRequestSchema, Pubsub, type PubsubSubscribeResponse } from "./proto/pubsub_pb.js";
import { type DeleteStateRequestSchema, type SaveStateRequestSchema, State } from "./proto/state_pb.js";

/** The gateway's port for gRPC-Web. */
export const DEFAULT_PORT = 5003;
/** The extension attribute by which a reply is known. */
export const CORRELATION_ID = "correlationid";

/** A stored value: JSON where it is JSON, else text. */
export interface Stored {
  readonly value: string;
  readonly etag: string;
}

/** An event that asks for another one. */
export interface Ask {
  /** Where it is published. */
  topic: string;
  /** Where the reply is awaited. */
  replyTopic: string;
  data?: Uint8Array;
  /** Its attributes (`ce-type`, …) and extensions; the correlation id is set by the client. */
  metadata?: Record<string, string>;
  /** How long the reply is awaited; 30 000 unless told. */
  timeoutMs?: number;
}

/** The gateway's four services: `virtufin.Gateway`, `Pubsub`, `State` and `Config`. */
export class GatewayClient extends ServiceClient {
  readonly #gateway: Client<typeof Gateway>;
  readonly #pubsub: Client<typeof Pubsub>;
  readonly #state: Client<typeof State>;
  readonly #config: Client<typeof Config>;

  constructor(options: ClientOptions = {}) {
    super(options, DEFAULT_PORT);
    this.#gateway = createClient(Gateway, this.transport);
    this.#pubsub = createClient(Pubsub, this.transport);
    this.#state = createClient(State, this.transport);
    this.#config = createClient(Config, this.transport);
  }

  /** A backend to be called by the names of its methods (E2.10). */
  service(name: string): Service {
    return new Service(this, name);
  }

  /** Calls a unary method of a backend with an encoded message; the answer is an encoded message. */
  async invoke(service: string, method: string, requestData = new Uint8Array()): Promise<Uint8Array> {
    const answer = await answered(this.#gateway.invoke({ service, method, requestData }, this.unary()));
    succeeded(answer);
    return answer.responseData;
  }

  /** Calls a unary method of a backend with a message as JSON; the answer is JSON. */
  async invokeJson(service: string, method: string, requestData = "{}"): Promise<string> {
    const answer = await answered(this.#gateway.invokeJson({ service, method, requestData }, this.unary()));
    succeeded(answer);
    return answer.responseData;
  }

  /** The names of the backends. */
  async listServices(): Promise<string[]> {
    return (await answered(this.#gateway.listServices({}, this.unary()))).services;
  }

  /** The methods of a backend, as it tells them itself. */
  async listMethods(service: string): Promise<MethodInfo[]> {
    return (await answered(this.#gateway.listMethods({ service }, this.unary()))).methods;
  }

  /** The fields of a message of a method. */
  async getMethodSchema(service: string, method: string, side: "input" | "output" = "input"): Promise<MethodSchema> {
    const answer = await answered(this.#gateway.getMethodSchema({ service, method, schemaType: side }, this.unary()));
    if (answer.schema === undefined) {
      throw ofName("INTERNAL", "the answer has no schema");
    }
    return answer.schema;
  }

  /** Events of services (`Gateway.Subscribe`, G10); empty filters stand for all. */
  subscribeEvents(filter: MessageInitShape<typeof SubscribeRequestSchema> = {}): Subscription<TopicEventRequest> {
    return new Subscription((signal, onHeader) =>
      this.#gateway.subscribe(filter, { ...this.stream(signal), onHeader }),
    );
  }

  /** Publishes an event; its metadata holds its attributes (`ce-type`, …) and extensions. */
  async publishEvent(event: MessageInitShape<typeof PublishRequestSchema>): Promise<void> {
    succeeded((await answered(this.#pubsub.publishEvent(event, this.unary()))).status);
  }

  /** Every event of topics (`Pubsub.Subscribe`) from the time that `opened` resolves. */
  subscribe(topics: string[]): Subscription<PubsubSubscribeResponse> {
    return new Subscription((signal, onHeader) =>
      this.#pubsub.subscribe({ topics }, { ...this.stream(signal), onHeader }),
    );
  }

  /** Ends the subscription whose events carry this `subscriptionId`. */
  async unsubscribe(subscriptionId: string): Promise<void> {
    succeeded((await answered(this.#pubsub.unsubscribe({ subscriptionId }, this.unary()))).status);
  }

  /**
   * Publishes an event with a fresh correlation id and gives the first event on the reply topic that carries the same one
   * (E2.8). The subscription stands before the event is published; events for others are passed over. Throws
   * `NoReplyError` when the time is over.
   */
  async publishWithResult(ask: Ask): Promise<PubsubSubscribeResponse> {
    const { topic, replyTopic, data = new Uint8Array(), metadata = {}, timeoutMs = 30_000 } = ask;
    const correlationId = crypto.randomUUID();
    const replies = this.subscribe([replyTopic]);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new NoReplyError(replyTopic, correlationId, timeoutMs)), timeoutMs);
    });
    const reply = async () => {
      await replies.opened;
      await this.publishEvent({ topic, data, metadata: { ...metadata, [CORRELATION_ID]: correlationId } });
      for await (const event of replies) {
        if (event.metadata[CORRELATION_ID] === correlationId) {
          return event;
        }
      }
      throw ofName("UNAVAILABLE", "the gateway ended the subscription before a reply came");
    };
    try {
      return await Promise.race([reply(), late]);
    } finally {
      clearTimeout(timer);
      await replies.return();
    }
  }

  /** Stores a value and gives its new ETag. `service` is the caller's own name (F7). A stale ETag is `aborted`. */
  async saveState(request: MessageInitShape<typeof SaveStateRequestSchema>): Promise<string> {
    const answer = await answered(this.#state.saveState(request, this.unary()));
    succeeded(answer.status);
    return answer.etag;
  }

  /** A stored value, if there is one. */
  async getState(service: string, key: string): Promise<Stored | undefined> {
    const { value, etag } = await answered(this.#state.getState({ service, key }, this.unary()));
    return value === "" && etag === "" ? undefined : { value, etag };
  }

  /** All registered keys of a service that have a value. */
  async getAllState(service: string): Promise<Record<string, string>> {
    return (await answered(this.#state.getAllState({ service }, this.unary()))).values;
  }

  /** Makes keys known to `getAllState` and to the events of changes. */
  async registerKeys(service: string, keys: string[]): Promise<void> {
    succeeded((await answered(this.#state.registerKeys({ service, keys }, this.unary()))).status);
  }

  /** Removes a value; a key that has none is no error. A stale ETag is `aborted`. */
  async deleteState(request: MessageInitShape<typeof DeleteStateRequestSchema>): Promise<void> {
    succeeded((await answered(this.#state.deleteState(request, this.unary()))).status);
  }

  /** The backends as they are configured (`Config.ListServices`). */
  async listConfigServices(): Promise<ConfigService[]> {
    return (await answered(this.#config.listServices({}, this.unary()))).services;
  }

  /** A backend as it is configured (`Config.GetService`). */
  async getConfigService(name: string): Promise<ConfigService> {
    const answer = await answered(this.#config.getService({ name }, this.unary()));
    if (answer.service === undefined) {
      throw ofName("INTERNAL", "the answer has no service");
    }
    return answer.service;
  }
}

/** A backend of the gateway, called with JSON. Unary methods only; streams take the backend's stubs. */
export class Service {
  readonly #gateway: GatewayClient;
  readonly name: string;

  constructor(gateway: GatewayClient, name: string) {
    this.#gateway = gateway;
    this.name = name;
  }

  /** Calls a method with a message in the JSON form of protobuf; the answer is of the same form. */
  async call(method: string, request: unknown = {}): Promise<unknown> {
    return JSON.parse(await this.#gateway.invokeJson(this.name, method, JSON.stringify(request)));
  }
}
