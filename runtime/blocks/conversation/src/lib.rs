//! The conversation building block: trait, requests, capabilities and behaviour suite.
