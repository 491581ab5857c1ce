//! The descriptor set, encoded and parsed.

use std::sync::OnceLock;

use prost_reflect::DescriptorPool;

/// Encoded `google.protobuf.FileDescriptorSet` of every package in this crate and the well-known
/// types they import, under the file names Dapr registers; made for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// [`DESCRIPTORS`] parsed, plus `google.rpc` so that error details inside an `Any` can be
/// rendered. Parsed once, on first use.
///
/// This is constant data derived from constants, hence a process-wide cell and not a parameter.
pub fn descriptor_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut pool = DescriptorPool::new();
        // Both inputs are built with this crate; a failure is a broken build, not bad input.
        for set in [DESCRIPTORS, tonic_types::pb::FILE_DESCRIPTOR_SET] {
            pool.decode_file_descriptor_set(set)
                .expect("the descriptor sets built into the crate are valid and agree");
        }
        pool
    })
}
