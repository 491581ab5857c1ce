//! The configuration building block: trait, requests, capabilities and behaviour suite.
