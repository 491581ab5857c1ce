//! State, pub/sub, configuration, lock and name resolution on SQLite.
