//! What a service counts, as a page for Prometheus (C6): the meter that pushes, read on demand.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use opentelemetry_prometheus::PrometheusExporter;
use parking_lot::RwLock;
use prometheus::{Registry, TextEncoder};

use crate::Error;

/// Version 0.0.4 of the text format is the one that every scraper reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The meter of this process. None before [`Telemetry::start`](super::Telemetry::start), or without metrics.
static REGISTRY: RwLock<Option<Registry>> = RwLock::new(None);

/// A reader to hand to the meter provider whose metrics the page shows from now on.
pub(super) fn reader() -> Result<PrometheusExporter, Error> {
    let (reader, registry) = paired()?;
    *REGISTRY.write() = Some(registry);
    Ok(reader)
}

fn paired() -> Result<(PrometheusExporter, Registry), Error> {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(|error| Error::Invalid(format!("the page of metrics: {error}")))?;
    Ok((reader, registry))
}

/// `GET /metrics`. Empty where nothing is counted; open, like the health routes, because it tells of load only.
pub(crate) fn route() -> Router {
    Router::new().route(
        "/metrics",
        get(|| std::future::ready(answer(REGISTRY.read().as_ref()))),
    )
}

fn answer(registry: Option<&Registry>) -> Response {
    match registry.map_or_else(|| Ok(String::new()), text) {
        Ok(page) => ([(header::CONTENT_TYPE, TEXT)], page).into_response(),
        Err(error) => {
            tracing::warn!(%error, "metrics cannot be written down");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn text(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry::metrics::MeterProvider as _;

    use super::*;
    use crate::telemetry::{SERIES, meters};

    #[test]
    fn each_metric_has_a_bounded_number_of_series() {
        let (reader, registry) = paired().unwrap();
        let provider = meters(opentelemetry_sdk::Resource::builder_empty().build())
            .with_reader(reader)
            .build();
        let orders = provider
            .meter("shop")
            .u64_counter("shop.orders")
            .with_description("Orders taken")
            .build();
        for buyer in 0..SERIES as i64 * 2 {
            orders.add(1, &[KeyValue::new("buyer", buyer)]);
        }
        let page = text(&registry).unwrap();
        assert!(page.contains("# TYPE shop_orders_total counter"), "{page}");
        let series = page.lines().filter(|line| line.starts_with("shop_orders_total{"));
        // And one for all the rest.
        assert_eq!(series.count(), SERIES + 1);
        assert!(page.contains("otel_metric_overflow=\"true\""), "{page}");
    }

    #[test]
    fn without_a_meter_the_page_is_empty() {
        assert_eq!(answer(None).status(), StatusCode::OK);
    }
}
