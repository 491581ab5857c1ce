//! Compiles `proto/` with protox (no `protoc` needed) into prost messages, tonic clients and
//! servers, and one descriptor set that reflection and protobuf JSON read at run time.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// The two import roots. The durable-task files import each other by bare file name, so their
/// folder is a root of its own.
const ROOTS: [&str; 2] = ["proto", "proto/durabletask"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let dapr = compile(&sources(Path::new("proto/dapr"), Path::new("proto"))?)?;
    let task_hub = compile(&sources(
        Path::new("proto/durabletask"),
        Path::new("proto/durabletask"),
    )?)?;

    generate(&dapr)?;
    generate(&task_hub)?;
    fs::write(
        out_dir.join("descriptors.bin"),
        without_comments(merge(dapr, task_hub)).encode_to_vec(),
    )?;
    Ok(())
}

/// Every `.proto` below `dir`, relative to its import root, in a stable order.
fn sources(dir: &Path, root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "proto") {
                found.push(path.strip_prefix(root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn compile(files: &[PathBuf]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(ROOTS)?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    Ok(compiler.file_descriptor_set())
}

fn generate(set: &FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let mut config = tonic_prost_build::Config::new();
    // A payload is sliced out of the receive buffer instead of being copied.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_fds_with_config(without_deprecation(set.clone()), config)?;
    Ok(())
}

/// Deprecated parts of the contract are still served, so their use must not warn. The descriptor
/// set keeps the marks; only the generated Rust loses them.
fn without_deprecation(mut set: FileDescriptorSet) -> FileDescriptorSet {
    fn message(m: &mut DescriptorProto) {
        clear(&mut m.options, |o| o.deprecated = None);
        for field in &mut m.field {
            clear(&mut field.options, |o| o.deprecated = None);
        }
        m.nested_type.iter_mut().for_each(message);
    }
    fn clear<T>(options: &mut Option<T>, reset: impl Fn(&mut T)) {
        if let Some(options) = options {
            reset(options);
        }
    }
    for file in &mut set.file {
        file.message_type.iter_mut().for_each(message);
        for method in file.service.iter_mut().flat_map(|s| &mut s.method) {
            clear(&mut method.options, |o| o.deprecated = None);
        }
    }
    set
}

fn merge(mut into: FileDescriptorSet, from: FileDescriptorSet) -> FileDescriptorSet {
    for file in from.file {
        if !into.file.iter().any(|have| have.name == file.name) {
            into.file.push(file);
        }
    }
    into
}

/// Comments only matter to the generated documentation; on the wire they are dead weight.
fn without_comments(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}
