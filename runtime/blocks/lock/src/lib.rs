//! The lock building block: trait, requests, capabilities and behaviour suite.
