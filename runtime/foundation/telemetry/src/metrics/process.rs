//! The process's own gauges, read from `/proc` at scrape time under the names Go's client library uses.
//!
//! There are no `go_*` families: they would describe a runtime that is not here.

use std::fs;

use prometheus::{
    core::{Collector, Desc},
    proto::{self, MetricType},
};

/// Kernel clock ticks per second as seen through `/proc`; fixed by the kernel's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

const FAMILIES: [(&str, &str, MetricType); 7] = [
    (
        "process_cpu_seconds_total",
        "User and system CPU time spent, in seconds",
        MetricType::COUNTER,
    ),
    (
        "process_max_fds",
        "Most file descriptors allowed",
        MetricType::GAUGE,
    ),
    ("process_open_fds", "File descriptors open", MetricType::GAUGE),
    (
        "process_resident_memory_bytes",
        "Resident memory in bytes",
        MetricType::GAUGE,
    ),
    (
        "process_start_time_seconds",
        "Start of the process, in seconds since the epoch",
        MetricType::GAUGE,
    ),
    ("process_threads", "Operating system threads", MetricType::GAUGE),
    (
        "process_virtual_memory_bytes",
        "Virtual memory in bytes",
        MetricType::GAUGE,
    ),
];

/// Reads `/proc/self` on every collection; what cannot be read is left out.
pub(super) struct ProcessCollector {
    descs: Vec<Desc>,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let descs = FAMILIES
            .iter()
            .filter_map(|(name, help, _)| {
                Desc::new(
                    (*name).to_owned(),
                    (*help).to_owned(),
                    Vec::new(),
                    std::collections::HashMap::new(),
                )
                .ok()
            })
            .collect();
        Self { descs }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let values = Values::read();
        let values = [
            values.cpu_seconds,
            values.max_fds,
            values.open_fds,
            values.resident_bytes,
            values.start_seconds,
            values.threads,
            values.virtual_bytes,
        ];
        FAMILIES
            .iter()
            .zip(values)
            .filter_map(|((name, help, kind), value)| {
                let value = value?;
                let mut metric = proto::Metric::default();
                if *kind == MetricType::COUNTER {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    metric.set_counter(counter);
                } else {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    metric.set_gauge(gauge);
                }
                let mut family = proto::MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                family.set_field_type(*kind);
                family.set_metric(vec![metric]);
                Some(family)
            })
            .collect()
    }
}

#[derive(Default)]
struct Values {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
}

impl Values {
    fn read() -> Self {
        let mut values = Self::default();
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            // The command name, field 2, may hold spaces and brackets; count from its end.
            let fields: Vec<&str> = stat
                .rsplit_once(')')
                .map(|(_, rest)| rest.split_whitespace().collect())
                .unwrap_or_default();
            let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
            values.cpu_seconds = field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
            values.start_seconds = field(22)
                .zip(boot_time())
                .map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let number = |key: &str| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(key))
                    .and_then(|rest| rest.split_whitespace().next())
                    .and_then(|text| text.parse::<f64>().ok())
            };
            values.resident_bytes = number("VmRSS:").map(|kib| kib * 1024.0);
            values.virtual_bytes = number("VmSize:").map(|kib| kib * 1024.0);
            values.threads = number("Threads:");
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            values.max_fds = limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files"))
                .and_then(|rest| rest.split_whitespace().next())
                .and_then(|soft| soft.parse().ok());
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The directory being read is one of them.
            let open = entries.count().saturating_sub(1);
            values.open_fds = u32::try_from(open).ok().map(f64::from);
        }
        values
    }
}

fn boot_time() -> Option<f64> {
    fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse().ok())
}
