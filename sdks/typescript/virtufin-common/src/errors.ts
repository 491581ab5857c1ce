// What can come of a call (E2.5): a union told apart by `kind`, with the details that services send along.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./proto/error_details_pb.js";

const KINDS = {
  [Code.Canceled]: "cancelled",
  [Code.Unknown]: "unknown",
  [Code.InvalidArgument]: "invalid-argument",
  [Code.DeadlineExceeded]: "deadline-exceeded",
  [Code.NotFound]: "not-found",
  [Code.AlreadyExists]: "already-exists",
  [Code.PermissionDenied]: "permission-denied",
  [Code.ResourceExhausted]: "resource-exhausted",
  [Code.FailedPrecondition]: "failed-precondition",
  [Code.Aborted]: "aborted",
  [Code.OutOfRange]: "out-of-range",
  [Code.Unimplemented]: "unimplemented",
  [Code.Internal]: "internal",
  [Code.Unavailable]: "unavailable",
  [Code.DataLoss]: "data-loss",
  [Code.Unauthenticated]: "unauthenticated",
} as const;

/** A gRPC status that is no success, in words. */
export type StatusKind = (typeof KINDS)[Code];

/** A field of a request, and what is wrong with it. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** What a status says beside its code and message. */
export interface Details {
  /** For programs: the reason of `google.rpc.ErrorInfo`, such as `NOT_OWNER`. */
  readonly reason?: string;
  /** Whose reason it is. */
  readonly domain?: string;
  /** What belongs to the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Fields of the request that are wrong. */
  readonly violations: readonly Violation[];
}

const NONE: Details = { metadata: {}, violations: [] };

/** A gRPC status that is no success. `failed-precondition` has the reason `NOT_OWNER` where another instance has the connection. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  constructor(
    readonly kind: StatusKind,
    readonly code: Code,
    message: string,
    readonly details: Details = NONE,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Service and client speak different versions of the contract; one of them has to be replaced (E2.7). */
export class ApiVersionMismatchError extends Error {
  override readonly name = "ApiVersionMismatchError";
  readonly kind = "api-version-mismatch";
  readonly code = Code.FailedPrecondition;
  constructor(
    message: string,
    readonly details: Details,
    options?: ErrorOptions,
  ) {
    super(`API version mismatch: ${message}`, options);
  }
}

/** No event with the correlation id arrived in time (E2.8). */
export class NoReplyError extends Error {
  override readonly name = "NoReplyError";
  readonly kind = "no-reply";
  constructor(
    readonly topic: string,
    readonly correlationId: string,
    readonly waitedMs: number,
  ) {
    super(`no reply on topic ${JSON.stringify(topic)} to correlation id ${correlationId} within ${waitedMs} ms`);
  }
}

/** Anything that a client throws, told apart by `kind`. */
export type VirtufinError = StatusError | ApiVersionMismatchError | NoReplyError;

/** Whether something caught is an error of a client. */
export function isVirtufinError(error: unknown): error is VirtufinError {
  return error instanceof StatusError || error instanceof ApiVersionMismatchError || error instanceof NoReplyError;
}

/** The error of a status's name (`NOT_FOUND`), as it stands in answers that are no status themselves. */
export function ofName(name: string, message: string): StatusError {
  const kind = name.toLowerCase().replaceAll("_", "-");
  const entry = Object.entries(KINDS).find(([, known]) => known === kind);
  const code = entry === undefined ? Code.Unknown : (Number(entry[0]) as Code);
  return new StatusError(KINDS[code], code, message);
}

/** The error of a call that failed. */
export function ofCall(error: unknown): VirtufinError {
  if (isVirtufinError(error)) {
    return error;
  }
  const cause = ConnectError.from(error);
  const info = cause.findDetails(ErrorInfoSchema)[0];
  const details: Details = {
    ...(info && { reason: info.reason, domain: info.domain }),
    metadata: info?.metadata ?? {},
    violations: cause
      .findDetails(BadRequestSchema)
      .flatMap((request) => request.fieldViolations.map(({ field, description }) => ({ field, description }))),
  };
  if (cause.code === Code.FailedPrecondition && details.reason === "API_VERSION_MISMATCH") {
    return new ApiVersionMismatchError(cause.rawMessage, details, { cause });
  }
  return new StatusError(KINDS[cause.code], cause.code, cause.rawMessage, details, { cause });
}
