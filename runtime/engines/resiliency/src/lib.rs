//! Timeouts, retries and circuit breakers as pure state machines, and the resolution of policies for a target.
