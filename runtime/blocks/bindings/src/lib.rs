//! The bindings building block: trait, requests, capabilities and behaviour suite.
