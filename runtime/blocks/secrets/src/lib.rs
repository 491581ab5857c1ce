//! The secrets building block: trait, requests, capabilities and behaviour suite.
