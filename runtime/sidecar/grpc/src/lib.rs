//! The public gRPC server: method table, token, allow lists, reflection.
