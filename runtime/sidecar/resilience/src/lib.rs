//! Runs operations under resiliency policies: the thin async shell over the engine.
