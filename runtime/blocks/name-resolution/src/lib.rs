//! The name resolution block: trait, requests and behaviour suite.
