//! crypto.dapr.localstorage and the dapr.io/enc/v1 scheme.
