//! bindings.cron, bindings.http and bindings.localstorage.
