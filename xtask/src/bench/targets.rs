//! What must hold: the numbers that were asked for, and our budgets beside the reference.

use Limit::{AtLeast, AtMost, Below, Share, Within};

/// A limit for a median.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    Below(f64),
    AtMost(f64),
    AtLeast(f64),
    /// At most this share of the reference's.
    Share(f64),
    /// Below this share of another of our own numbers: its scenario and key.
    Within(f64, &'static str, &'static str),
}

/// One number of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// The scenario that gives the key: says why a value is absent.
    pub(crate) scenario: &'static str,
    pub(crate) key: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) limit: Limit,
}

/// A line of a table: all of its parts must hold.
#[derive(Debug)]
pub(crate) struct Target {
    /// The row of the requirements, when it has one.
    pub(crate) row: &'static str,
    pub(crate) label: &'static str,
    pub(crate) parts: &'static [Part],
    /// What the line asks for and nothing here can measure yet: name and reason.
    pub(crate) absent: &'static [(&'static str, &'static str)],
}

const fn part(
    name: &'static str,
    scenario: &'static str,
    key: &'static str,
    unit: &'static str,
    limit: Limit,
) -> Part {
    Part {
        name,
        scenario,
        key,
        unit,
        limit,
    }
}

const fn target(row: &'static str, label: &'static str, parts: &'static [Part]) -> Target {
    Target {
        row,
        label,
        parts,
        absent: &[],
    }
}

/// The nine numbers of the product's brief (A10), in its order: three latencies, three rates, three costs.
pub(crate) const ASKED: &[Target] = &[
    Target {
        row: "A10.1",
        label: "invocation adds < 10 ms",
        parts: &[part(
            "plaintext",
            "calls",
            "call_rate_added_p99_ms",
            "ms",
            Below(10.0),
        )],
        absent: &[("with mTLS", "sentry is not there yet")],
    },
    target(
        "A10.2",
        "state < 5 ms in memory, < 20 ms persistent",
        &[
            part(
                "set in memory",
                "state",
                "memory_set_rate_p99_ms",
                "ms",
                Below(5.0),
            ),
            part(
                "get in memory",
                "state",
                "memory_get_rate_p99_ms",
                "ms",
                Below(5.0),
            ),
            part(
                "set on SQLite",
                "state",
                "sqlite_set_rate_p99_ms",
                "ms",
                Below(20.0),
            ),
            part(
                "get on SQLite",
                "state",
                "sqlite_get_rate_p99_ms",
                "ms",
                Below(20.0),
            ),
        ],
    ),
    target(
        "A10.3",
        "publish < 5 ms, deliver < 10 ms",
        &[
            part("publish", "events", "publish_rate_p99_ms", "ms", Below(5.0)),
            part("deliver", "events", "deliver_rate_p99_ms", "ms", Below(10.0)),
        ],
    ),
    target(
        "A10.4",
        "invocation ≥ 10,000 requests/s",
        &[
            part("HTTP", "calls", "call_per_second", "/s", AtLeast(10_000.0)),
            part("gRPC proxied", "grpc", "grpc_per_second", "/s", AtLeast(10_000.0)),
            part(
                "gRPC InvokeService",
                "grpc",
                "grpc_service_per_second",
                "/s",
                AtLeast(10_000.0),
            ),
        ],
    ),
    target(
        "A10.5",
        "state ≥ 5,000 operations/s",
        &[
            part("memory", "state", "memory_per_second", "/s", AtLeast(5_000.0)),
            part("SQLite", "state", "sqlite_per_second", "/s", AtLeast(5_000.0)),
        ],
    ),
    target(
        "A10.6",
        "pub/sub ≥ 100,000 messages/s (bulk)",
        &[
            part("delivered", "bulk", "bulk_per_second", "/s", AtLeast(100_000.0)),
            part("lost", "bulk", "bulk_undelivered", "", AtMost(0.0)),
        ],
    ),
    target(
        "A10.7",
        "CPU of a sidecar < 10 % of a core at rest, ≤ 50 % at 1,000 calls/s",
        &[
            part("at rest", "memory", "idle_cpu_share", "%", Below(10.0)),
            part("at 1,000/s", "calls", "rate_cpu_share", "%", AtMost(50.0)),
        ],
    ),
    target(
        "A10.7",
        "memory of a sidecar < 128 MB at rest, ≤ 512 MB under load",
        &[
            part("at rest", "memory", "idle_mb", "MB", Below(128.0)),
            part("peak under load", "memory", "load_peak_mb", "MB", AtMost(512.0)),
            part("after bulk events", "bulk", "bulk_load_mb", "MB", AtMost(512.0)),
        ],
    ),
    Target {
        row: "A10.8",
        label: "network: batches, connections used again, compression where negotiated",
        parts: &[
            // A batch is worth its name when its events cost less than half of single ones.
            part(
                "CPU of an event in a batch beside a single one's",
                "bulk",
                "bulk_cpu_us",
                "µs",
                Within(0.5, "events", "event_cpu_us"),
            ),
            part(
                "connections for 16 callers",
                "calls",
                "call_peers",
                "",
                Below(16.0),
            ),
            part("gzip over gRPC (1 = yes)", "grpc", "grpc_gzip", "", AtLeast(1.0)),
        ],
        absent: &[("pipelined Redis", "no scenario looks at it")],
    },
];

/// Our budgets, beside the reference or by themselves.
pub(crate) const BUDGETS: &[Target] = &[
    target(
        "",
        "invocation over HTTP, both sidecars: CPU per request ≤ 1/3 of daprd's",
        &[part("", "calls", "call_cpu_us", "µs", Share(1.0 / 3.0))],
    ),
    target(
        "",
        "invocation at one connection: p50 ≤ 1/2, in all and added to the app's own; added p99 ≤ 1/3",
        &[
            part("p50", "calls", "call_p50_us", "µs", Share(0.5)),
            part("added p50", "calls", "call_added_p50_us", "µs", Share(0.5)),
            part("added p99", "calls", "call_added_p99_us", "µs", Share(1.0 / 3.0)),
        ],
    ),
    target(
        "",
        "state: CPU per operation ≤ 1/3",
        &[
            part("memory", "state", "memory_cpu_us", "µs", Share(1.0 / 3.0)),
            part("SQLite", "state", "sqlite_cpu_us", "µs", Share(1.0 / 3.0)),
        ],
    ),
    target(
        "",
        "publish → deliver in memory: CPU per event ≤ 1/4",
        &[part("", "events", "event_cpu_us", "µs", Share(0.25))],
    ),
    target(
        "",
        "bulk, delivered and acknowledged: ≥ 100,000 events/s, none lost",
        &[
            part("delivered", "bulk", "bulk_per_second", "/s", AtLeast(100_000.0)),
            part("lost", "bulk", "bulk_undelivered", "", AtMost(0.0)),
        ],
    ),
    target(
        "",
        "pubsub.sqlite across two processes: p50 ≤ 5 ms, ≥ 3,000 durable events/s",
        &[
            part("p50", "queue", "queue_p50_ms", "ms", AtMost(5.0)),
            part("single", "queue", "queue_per_second", "/s", AtLeast(3_000.0)),
            part(
                "batches",
                "queue",
                "queue_bulk_per_second",
                "/s",
                AtLeast(3_000.0),
            ),
        ],
    ),
    target(
        "",
        "pubsub.sqlite at rest ≤ 0.1 % of a core",
        &[part("", "queue", "queue_idle_cpu_share", "%", AtMost(0.1))],
    ),
    target(
        "",
        "state on Redis and PostgreSQL: CPU per operation ≤ 1/3",
        &[
            part("Redis set", "redis", "redis_set_cpu_us", "µs", Share(1.0 / 3.0)),
            part("Redis get", "redis", "redis_get_cpu_us", "µs", Share(1.0 / 3.0)),
            part(
                "PostgreSQL v1 set",
                "postgres",
                "postgres1_set_cpu_us",
                "µs",
                Share(1.0 / 3.0),
            ),
            part(
                "PostgreSQL v1 get",
                "postgres",
                "postgres1_get_cpu_us",
                "µs",
                Share(1.0 / 3.0),
            ),
            part(
                "PostgreSQL v2 set",
                "postgres",
                "postgres2_set_cpu_us",
                "µs",
                Share(1.0 / 3.0),
            ),
            part(
                "PostgreSQL v2 get",
                "postgres",
                "postgres2_get_cpu_us",
                "µs",
                Share(1.0 / 3.0),
            ),
        ],
    ),
    target(
        "",
        "publish → deliver on Redis: CPU per event ≤ 1/3",
        &[part("", "redis", "redis_event_cpu_us", "µs", Share(1.0 / 3.0))],
    ),
    target(
        "",
        "memory at rest ≤ 15 MB (VmRSS, default components)",
        &[part("", "memory", "idle_mb", "MB", AtMost(15.0))],
    ),
    target(
        "",
        "memory after load ≤ 30 MB (VmRSS, default components)",
        &[
            part("calls", "memory", "load_calls_mb", "MB", AtMost(30.0)),
            part("then state", "memory", "load_state_mb", "MB", AtMost(30.0)),
            part("then events", "memory", "load_events_mb", "MB", AtMost(30.0)),
        ],
    ),
    target(
        "",
        "exec to the first 204 of outbound health ≤ 25 ms",
        &[
            part("memory", "start", "start_ms", "ms", AtMost(25.0)),
            part(
                "default components",
                "start",
                "start_defaults_ms",
                "ms",
                AtMost(25.0),
            ),
        ],
    ),
    target(
        "",
        "large body: either sidecar grows by ≤ 16 MB beyond the replay budget of 16 MB",
        &[
            part("chunks", "upload", "upload_chunked_growth_mb", "MB", AtMost(32.0)),
            part("length", "upload", "upload_length_growth_mb", "MB", AtMost(32.0)),
        ],
    ),
];
