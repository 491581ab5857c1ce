//! Container images without an engine: static programs, one OCI layout for each Dockerfile, checked by unpacking (F9).

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::{args::Args, repo};

/// An image: its name, the folder of its Dockerfile, the package of its program, what must be in it, and how its program
/// is shown to run.
struct Image {
    name: String,
    folder: String,
    package: &'static str,
    files: &'static [&'static str],
    program: &'static str,
}

fn images() -> Vec<Image> {
    let services = [
        "gateway",
        "tasks",
        "notifications",
        "preferences",
        "stats",
        "chat",
    ];
    let todo = services.iter().map(|service| Image {
        name: format!("todo-{service}"),
        folder: format!("deploy/todo/{service}"),
        package: "outrigger-todo",
        files: &["todo"],
        program: "todo",
    });
    let platform = [
        ("outrigger-platform-gateway", &["gateway"]),
        ("outrigger-platform-workers", &["workmanager"]),
        ("outrigger-platform-websockets", &["websocketmanager"]),
    ];
    let platform = platform.map(|(package, files)| Image {
        name: files[0].to_owned(),
        folder: format!("deploy/platform/{}", files[0]),
        package,
        files,
        program: files[0],
    });
    std::iter::once(Image {
        name: "outrigger".to_owned(),
        folder: "deploy/runtime".to_owned(),
        package: "outrigger",
        files: &["daprd", "outrigger"],
        program: "outrigger",
    })
    .chain(todo)
    .chain(platform)
    .collect()
}

/// Builds every image, or those named with commas after `--only`, into `target/images` and checks it.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let base = args.value("--base")?;
    let only = args.value("--only")?;
    args.finish()?;
    let images = chosen(images(), only.as_deref())?;
    let host = repo::host()?;
    let programs = build_static(&profile, &host, &images)?;
    if repo::which("buildah").is_none() {
        bail!(
            "buildah is not here (apt-get install buildah); the static programs are in {}",
            programs.display()
        );
    }
    let out = repo::target().join("images");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("clear {}", out.display()))?;
    }
    let context = out.join("context");
    fs::create_dir_all(&context).context("create the build context")?;
    for program in images.iter().map(|image| image.program).collect::<BTreeSet<_>>() {
        strip(&programs.join(program), &context.join(program))?;
    }
    symlink("outrigger", context.join("daprd")).context("link daprd")?;
    for image in images {
        let layout = out.join(&image.name);
        make(&image, base.as_deref(), &context, &layout)?;
        // A base brings files of its own.
        check(&image, &layout, &out.join("unpacked"), base.is_none())?;
    }
    println!("images are in {}", out.display());
    Ok(())
}

fn chosen(mut all: Vec<Image>, only: Option<&str>) -> anyhow::Result<Vec<Image>> {
    let Some(only) = only else { return Ok(all) };
    let names: BTreeSet<&str> = only.split(',').map(str::trim).collect();
    for name in &names {
        ensure!(
            all.iter().any(|image| image.name == *name),
            "there is no image {name:?}"
        );
    }
    all.retain(|image| names.contains(image.name.as_str()));
    Ok(all)
}

/// Programs that need no library of the machine they run on (D10).
fn build_static(profile: &str, host: &str, images: &[Image]) -> anyhow::Result<PathBuf> {
    let packages: BTreeSet<&str> = images.iter().map(|image| image.package).collect();
    let mut command = repo::cargo();
    command
        .args(["build", "--locked", "--profile", profile])
        // With a target named, the flags are for the programs alone and not for build scripts and macros.
        .args(["--target", host])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    for package in &packages {
        command.args(["--package", package]);
    }
    let names = packages.into_iter().collect::<Vec<_>>().join(", ");
    repo::step(&format!("build static {names} ({profile})"), &mut command)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(repo::target().join(host).join(folder))
}

fn strip(from: &Path, to: &Path) -> anyhow::Result<()> {
    if repo::which("objcopy").is_none() {
        fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
        return Ok(());
    }
    let mut command = Command::new("objcopy");
    command.arg("--strip-all").arg(from).arg(to);
    repo::step(&format!("strip {}", from.display()), &mut command)
}

/// A builder that needs no daemon and no privileges beyond a folder.
fn buildah(out: &Path) -> Command {
    let mut command = Command::new("buildah");
    command
        .arg("--root")
        .arg(out.join("storage"))
        .arg("--runroot")
        .arg(out.join("storage-run"))
        .args(["--storage-driver", "vfs"]);
    command
}

fn make(image: &Image, base: Option<&str>, context: &Path, layout: &Path) -> anyhow::Result<()> {
    let out = layout.parent().context("a layout has a parent")?;
    let tag = format!("localhost/{}:latest", image.name);
    let mut build = buildah(out);
    build.args(["build", "--isolation", "chroot", "--quiet", "--timestamp", "0"]);
    if let Some(base) = base {
        build.arg("--build-arg").arg(format!("BASE={base}"));
    }
    build
        .arg("--file")
        .arg(repo::root().join(&image.folder).join("Dockerfile"))
        .args(["--tag", &tag])
        .arg(context);
    repo::step(&format!("build image {}", image.name), &mut build)?;
    let mut push = buildah(out);
    push.args(["push", "--quiet", &tag])
        .arg(format!("oci:{}:latest", layout.display()));
    repo::step(&format!("write {}", layout.display()), &mut push)
}

/// Unpacks a layout's layers as a runtime does, compares the content, and runs the program from there.
fn check(image: &Image, layout: &Path, unpacked: &Path, alone: bool) -> anyhow::Result<()> {
    if unpacked.exists() {
        fs::remove_dir_all(unpacked).context("clear the unpacked root")?;
    }
    fs::create_dir_all(unpacked).context("create the unpacked root")?;
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(layout, &index["manifests"][0]["digest"])?)?;
    let config = json(&blob(layout, &manifest["config"]["digest"])?)?;
    ensure!(
        config["config"]["User"] == "65532:65532",
        "{}: runs as {}, not as an ordinary user",
        image.name,
        config["config"]["User"]
    );
    let layers = manifest["layers"].as_array().context("the manifest has layers")?;
    for layer in layers {
        let mut tar = Command::new("tar");
        tar.arg("-xf")
            .arg(blob(layout, &layer["digest"])?)
            .arg("-C")
            .arg(unpacked);
        repo::step(&format!("unpack a layer of {}", image.name), &mut tar)?;
    }
    if alone {
        let found: BTreeSet<String> = fs::read_dir(unpacked)
            .context("list the unpacked root")?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_, _>>()?;
        let wanted: BTreeSet<String> = image.files.iter().map(|file| (*file).to_owned()).collect();
        ensure!(found == wanted, "{}: holds {found:?}, not {wanted:?}", image.name);
    }
    let program = unpacked.join(image.program);
    let mode = fs::metadata(&program)?.permissions().mode();
    ensure!(
        mode & 0o005 == 0o005,
        "{}: others cannot run it",
        program.display()
    );
    // In its own root there is no loader and no library: a program that is not static ends here.
    let mut chroot = Command::new("chroot");
    chroot
        .arg(unpacked)
        .arg(format!("/{}", image.program))
        .arg("--help");
    let output = chroot.output().context("start chroot")?;
    ensure!(
        output.status.success(),
        "{}: does not run from its own root ({}): {}",
        image.name,
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    println!(
        "    {}: {} layers, runs from its own root",
        image.name,
        layers.len()
    );
    Ok(())
}

fn json(path: &Path) -> anyhow::Result<serde_json::Value> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn blob(layout: &Path, digest: &serde_json::Value) -> anyhow::Result<PathBuf> {
    let digest = digest.as_str().context("a descriptor has a digest")?;
    let (kind, hex) = digest.split_once(':').context("a digest names its kind")?;
    Ok(layout.join("blobs").join(kind).join(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dockerfiles(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dockerfiles(&path, found);
            } else if path.file_name().is_some_and(|name| name == "Dockerfile") {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_dockerfile_is_an_image_of_one_static_program_and_an_ordinary_user() {
        let mut found = BTreeSet::new();
        dockerfiles(&repo::root().join("deploy"), &mut found);
        let known = images().into_iter().map(|image| {
            let path = repo::root().join(&image.folder).join("Dockerfile");
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(lines[..2], ["ARG BASE=scratch", "FROM ${BASE}"], "{}", image.name);
            assert!(lines.contains(&"USER 65532:65532"), "{}", image.name);
            let copies: Vec<&str> = lines
                .iter()
                .filter_map(|line| line.strip_prefix("COPY "))
                .collect();
            let [copy] = copies[..] else {
                panic!("{}: {copies:?}", image.name)
            };
            let mut copied: BTreeSet<&str> = copy.split(' ').collect();
            assert!(copied.remove("/") || copied.remove(format!("/{}", image.program).as_str()));
            assert_eq!(copied, image.files.iter().copied().collect(), "{}", image.name);
            path
        });
        assert_eq!(known.collect::<BTreeSet<_>>(), found);
    }

    #[test]
    fn some_images_may_be_chosen() {
        let some = chosen(images(), Some("gateway, workmanager")).unwrap();
        let names: Vec<&str> = some.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["gateway", "workmanager"]);
        assert!(chosen(images(), Some("nobody")).is_err());
    }
}
