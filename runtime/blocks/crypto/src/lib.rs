//! The crypto building block: trait, requests, capabilities and behaviour suite.
