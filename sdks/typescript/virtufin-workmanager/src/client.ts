// The worker manager: user code that turns events into events.
import { type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { answered, type ClientOptions, ServiceClient } from "virtufin-common";
import {
  type CodeSourceSchema,
  type CreateWorkerRequestSchema,
  type HistoryEntry,
  type LoadCodeFromContentRequestSchema,
  type LoadCodeFromUrlRequestSchema,
  type WorkerInfo,
  WorkManager,
} from "./proto/workmanager_pb.js";

/** The worker manager's port. */
export const DEFAULT_PORT = 5102;

/** `virtufin.WorkManager`. */
export class WorkManagerClient extends ServiceClient {
  readonly #stub: Client<typeof WorkManager>;

  constructor(options: ClientOptions = {}) {
    super(options, DEFAULT_PORT);
    this.#stub = createClient(WorkManager, this.transport);
  }

  /** Makes a worker, which runs at once unless told otherwise; gives its id. */
  async createWorker(request: MessageInitShape<typeof CreateWorkerRequestSchema>): Promise<string> {
    return (await answered(this.#stub.createWorker(request, this.unary()))).id;
  }

  /** The workers that carry all of these tags; an empty value stands for any. */
  async listWorkers(tags: Record<string, string> = {}): Promise<WorkerInfo[]> {
    const filters = Object.entries(tags).map(([key, value]) => ({ key, value }));
    return (await answered(this.#stub.listWorkers({ filters }, this.unary()))).workers;
  }

  /** Removes a worker, running or not. */
  async deleteWorker(id: string): Promise<void> {
    await answered(this.#stub.deleteWorker({ id }, this.unary()));
  }

  /** Starts a worker; one that runs is left as it is. */
  async startWorker(id: string): Promise<void> {
    await answered(this.#stub.startWorker({ id }, this.unary()));
  }

  /** Stops a worker; one that does not run is left as it is. */
  async stopWorker(id: string): Promise<void> {
    await answered(this.#stub.stopWorker({ id }, this.unary()));
  }

  /** Brings persisted workers back; gives their number. */
  async recoverWorkers(): Promise<number> {
    return (await answered(this.#stub.recoverWorkers({}, this.unary()))).recoveredCount;
  }

  /** The code that a worker has had, oldest first. */
  async getWorkerHistory(id: string): Promise<HistoryEntry[]> {
    return (await answered(this.#stub.getWorkerHistory({ id }, this.unary()))).entries;
  }

  /** Gives a worker new code. */
  async loadCodeFromContent(request: MessageInitShape<typeof LoadCodeFromContentRequestSchema>): Promise<void> {
    await answered(this.#stub.loadCodeFromContent(request, this.unary()));
  }

  /** Gives a worker new code that the service fetches. */
  async loadCodeFromUrl(request: MessageInitShape<typeof LoadCodeFromUrlRequestSchema>): Promise<void> {
    await answered(this.#stub.loadCodeFromUrl(request, this.unary()));
  }

  /** Gives a worker new code of either kind. */
  async loadCode(id: string, codeSource: MessageInitShape<typeof CodeSourceSchema>): Promise<void> {
    await answered(this.#stub.loadCode({ id, codeSource }, this.unary()));
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
