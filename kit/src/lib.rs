//! The Rust service kit: client, app extension, health, configuration.
