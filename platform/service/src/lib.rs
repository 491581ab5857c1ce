//! What the platform services share.
