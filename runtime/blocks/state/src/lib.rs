//! The state building block: trait, requests, capabilities and behaviour suite.
