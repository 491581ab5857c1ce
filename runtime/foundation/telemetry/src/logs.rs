//! Logs (work in progress).
