//! The middleware building block: trait, requests, capabilities and behaviour suite.
