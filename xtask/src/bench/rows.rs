//! Everything beside the reference: key and words.

/// CPU per request comes first: it is what a sidecar costs everywhere, all day.
pub(crate) const ROWS: &[(&str, &str)] = &[
    ("call_cpu_us", "invocation, both sidecars: CPU per request, µs"),
    (
        "grpc_cpu_us",
        "invocation over gRPC, proxied: CPU per request, µs",
    ),
    (
        "grpc_service_cpu_us",
        "invocation over gRPC, InvokeService: CPU per request, µs",
    ),
    ("memory_cpu_us", "state in memory: CPU per operation, µs"),
    ("sqlite_cpu_us", "state on SQLite: CPU per operation, µs"),
    ("event_cpu_us", "publish → deliver in memory: CPU per event, µs"),
    ("bulk_cpu_us", "bulk publish → bulk deliver: CPU per event, µs"),
    (
        "bulk_single_cpu_us",
        "bulk publish → single deliver: CPU per event, µs",
    ),
    (
        "queue_cpu_us",
        "pubsub.sqlite, both sidecars: CPU per single event, µs",
    ),
    ("redis_set_cpu_us", "state.redis: CPU per set, µs"),
    (
        "redis_one_key_cpu_us",
        "state.redis: CPU per set of one key by all, µs",
    ),
    ("redis_get_cpu_us", "state.redis: CPU per get, µs"),
    (
        "redis_event_cpu_us",
        "pubsub.redis, publish → deliver: CPU per event, µs",
    ),
    ("postgres1_set_cpu_us", "state.postgresql v1: CPU per set, µs"),
    (
        "postgres1_one_key_cpu_us",
        "state.postgresql v1: CPU per set of one key by all, µs",
    ),
    ("postgres1_get_cpu_us", "state.postgresql v1: CPU per get, µs"),
    ("postgres2_set_cpu_us", "state.postgresql v2: CPU per set, µs"),
    (
        "postgres2_one_key_cpu_us",
        "state.postgresql v2: CPU per set of one key by all, µs",
    ),
    ("postgres2_get_cpu_us", "state.postgresql v2: CPU per get, µs"),
    ("call_p50_us", "invocation, one connection: p50, µs"),
    ("call_added_p50_us", "invocation, one connection: added p50, µs"),
    ("call_added_p99_us", "invocation, one connection: added p99, µs"),
    ("call_rate_added_p50_ms", "invocation at 1,000/s: added p50, ms"),
    ("call_rate_added_p90_ms", "invocation at 1,000/s: added p90, ms"),
    ("call_rate_added_p99_ms", "invocation at 1,000/s: added p99, ms"),
    ("call_busy_p99_us", "invocation, 16 connections: p99, µs"),
    (
        "grpc_p99_us",
        "invocation over gRPC, proxied, 16 callers: p99, µs",
    ),
    (
        "grpc_service_p99_us",
        "invocation over gRPC, InvokeService, 16 callers: p99, µs",
    ),
    (
        "memory_set_rate_p99_ms",
        "state in memory at 1,000/s: set, p99, ms",
    ),
    (
        "memory_get_rate_p99_ms",
        "state in memory at 1,000/s: get, p99, ms",
    ),
    (
        "sqlite_set_rate_p99_ms",
        "state on SQLite at 1,000/s: set, p99, ms",
    ),
    (
        "sqlite_get_rate_p99_ms",
        "state on SQLite at 1,000/s: get, p99, ms",
    ),
    ("publish_rate_p99_ms", "publish in memory at 1,000/s: p99, ms"),
    (
        "deliver_rate_p99_ms",
        "publish → deliver in memory at 1,000/s: p99, ms",
    ),
    (
        "queue_p50_ms",
        "pubsub.sqlite, publish → deliver at 100/s: p50, ms",
    ),
    (
        "queue_p99_ms",
        "pubsub.sqlite, publish → deliver at 100/s: p99, ms",
    ),
    (
        "call_per_second",
        "invocation, 16 connections: requests per second",
    ),
    (
        "grpc_per_second",
        "invocation over gRPC, proxied, 16 callers: requests per second",
    ),
    (
        "grpc_service_per_second",
        "invocation over gRPC, InvokeService, 16 callers: requests per second",
    ),
    (
        "memory_per_second",
        "state in memory, 8 connections: operations per second",
    ),
    (
        "sqlite_per_second",
        "state on SQLite, 8 connections: operations per second",
    ),
    (
        "event_per_second",
        "publish → deliver in memory: events per second",
    ),
    (
        "bulk_per_second",
        "bulk publish → bulk deliver: events per second",
    ),
    (
        "bulk_undelivered",
        "bulk publish → bulk deliver: events not delivered within 30 s",
    ),
    (
        "bulk_single_per_second",
        "bulk publish → single deliver: events per second",
    ),
    (
        "bulk_single_undelivered",
        "bulk publish → single deliver: events not delivered within 30 s",
    ),
    ("queue_per_second", "pubsub.sqlite: single events per second"),
    (
        "queue_bulk_per_second",
        "pubsub.sqlite: events in batches per second",
    ),
    (
        "redis_per_second",
        "state.redis, 16 connections: operations per second",
    ),
    (
        "redis_event_per_second",
        "pubsub.redis, publish → deliver: events per second",
    ),
    (
        "postgres1_per_second",
        "state.postgresql v1, 16 connections: operations per second",
    ),
    (
        "postgres2_per_second",
        "state.postgresql v2, 16 connections: operations per second",
    ),
    ("soak_operations", "soak: operations in all"),
    (
        "soak_caller_slope_mb_h",
        "soak, caller: slope of memory, MB an hour",
    ),
    (
        "soak_callee_slope_mb_h",
        "soak, callee: slope of memory, MB an hour",
    ),
    (
        "soak_caller_settled_mb",
        "soak, caller: memory after a quarter, MB",
    ),
    ("soak_caller_end_mb", "soak, caller: memory at the end, MB"),
    (
        "soak_callee_settled_mb",
        "soak, callee: memory after a quarter, MB",
    ),
    ("soak_callee_end_mb", "soak, callee: memory at the end, MB"),
    ("idle_mb", "memory at rest, MB"),
    ("load_calls_mb", "memory after invocations, MB"),
    ("load_state_mb", "memory after state on SQLite too, MB"),
    ("load_events_mb", "memory after events too, MB"),
    ("load_peak_mb", "highest memory meanwhile, MB"),
    (
        "call_load_mb",
        "other components: memory after invocations at four rates, MB",
    ),
    (
        "event_load_mb",
        "other components: memory after events in memory, MB",
    ),
    ("bulk_load_mb", "other components: memory after bulk events, MB"),
    (
        "bulk_single_load_mb",
        "other components: memory after bulk events delivered singly, MB",
    ),
    (
        "start_ms",
        "exec to first 204, components in memory and on SQLite, ms",
    ),
    ("start_defaults_ms", "exec to first 204, default components, ms"),
    (
        "upload_chunked_growth_mb",
        "large body in chunks: memory growth, MB",
    ),
    (
        "upload_length_growth_mb",
        "large body with its length: memory growth, MB",
    ),
    (
        "upload_chunked_mb_per_second",
        "large body in chunks: MB per second",
    ),
    (
        "upload_length_mb_per_second",
        "large body with its length: MB per second",
    ),
    ("idle_cpu_share", "CPU at rest, % of a core"),
    (
        "rate_cpu_share",
        "CPU at 1,000 calls/s, busier sidecar, % of a core",
    ),
    ("queue_idle_cpu_share", "pubsub.sqlite: CPU at rest, % of a core"),
    ("call_peers", "connections between the sidecars for 16 callers"),
    ("grpc_gzip", "a gzip call over gRPC is answered in gzip (1 = yes)"),
];

/// What the sidecars do not cost: shows that load and app are no bottleneck.
pub(crate) const SCALE: &[(&str, &str)] = &[
    (
        "call_direct_p50_us",
        "the app asked directly, one connection: p50, µs",
    ),
    ("call_generator_cpu_us", "generator, invocation: per request"),
    ("call_app_cpu_us", "app, invocation: per request"),
    ("grpc_generator_cpu_us", "generator, gRPC proxied: per request"),
    ("grpc_app_cpu_us", "app, gRPC proxied: per request"),
    (
        "grpc_service_generator_cpu_us",
        "generator, gRPC InvokeService: per request",
    ),
    ("grpc_service_app_cpu_us", "app, gRPC InvokeService: per request"),
    (
        "memory_generator_cpu_us",
        "generator, state in memory: per operation",
    ),
    (
        "sqlite_generator_cpu_us",
        "generator, state on SQLite: per operation",
    ),
    ("event_generator_cpu_us", "generator, single events: per event"),
    ("bulk_generator_cpu_us", "generator, bulk to bulk: per event"),
    (
        "bulk_single_generator_cpu_us",
        "generator, bulk to single: per event",
    ),
    ("queue_generator_cpu_us", "generator, pubsub.sqlite: per event"),
    ("redis_generator_cpu_us", "generator, state.redis: per operation"),
    (
        "redis_event_generator_cpu_us",
        "generator, pubsub.redis: per event",
    ),
    (
        "postgres1_generator_cpu_us",
        "generator, state.postgresql v1: per operation",
    ),
    (
        "postgres2_generator_cpu_us",
        "generator, state.postgresql v2: per operation",
    ),
];
