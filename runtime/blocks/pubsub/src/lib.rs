//! The pubsub building block: trait, requests, capabilities and behaviour suite.
