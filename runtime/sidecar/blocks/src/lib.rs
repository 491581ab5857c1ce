//! Secrets, configuration, lock, cryptography, bindings and conversation as served to apps.
