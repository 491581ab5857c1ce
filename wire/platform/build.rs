//! Compiles `proto/` with protox (no `protoc` needed) into messages, clients, servers and one descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// The services' files; what they import comes along.
const FILES: [&str; 6] = [
    "virtufin/config.proto",
    "virtufin/gateway.proto",
    "virtufin/pubsub.proto",
    "virtufin/state.proto",
    "virtufin/websocketmanager.proto",
    "virtufin/workmanager.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    // Extensions (the HTTP rules) survive only in protox's own encoding.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(
        PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin"),
        &encoded,
    )?;

    let mut config = tonic_prost_build::Config::new();
    // A payload is sliced out of the receive buffer instead of being copied.
    config.bytes(["."]);
    // Equal maps give equal bytes, in every language's tests.
    config.btree_map(["."]);
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // `Connect` is a method of ours; the transport's constructor of that name would clash with it.
        .build_transport(false)
        .compile_fds_with_config(
            prost_types::FileDescriptorSet::decode(encoded.as_slice())?,
            config,
        )?;
    Ok(())
}
