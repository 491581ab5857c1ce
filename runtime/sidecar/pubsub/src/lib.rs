//! Publish and deliver: envelopes, scopes, subscriptions, bulk, streaming, dead letters and the outbox.
