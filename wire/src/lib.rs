//! The wire contracts: Dapr and platform protobuf packages, compiled without protoc.
