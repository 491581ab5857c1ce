//! mDNS in Dapr's form and the per-user runtime registry.
