//! `outrigger logs`: what the apps of a run file wrote into their log files.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{Surroundings, wait_for};
use crate::{
    output::{self, TextFormat},
    run::run_file,
    sidecars,
};

/// How often files that are followed are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Most lines `--tail` keeps.
const MAX_TAIL: usize = 100_000;

/// Print the logs of an app of a run file and of its sidecar
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger logs --app-id orders\n  outrigger logs -a orders --follow --tail 20\n\n  # Only the sidecar's\n  outrigger logs -a orders --source daprd\n\n  # Of a run that has ended\n  outrigger logs -a orders -f dapr.yaml"
)]
pub(super) struct LogsFlags {
    /// The id of the app
    #[arg(short = 'a', long)]
    app_id: String,
    /// Go on with what is written from now
    #[arg(long)]
    follow: bool,
    /// Only the last lines of each file
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Whose logs
    #[arg(long, value_enum, default_value = "all")]
    source: Source,
    /// The run file, for a run that has ended; the dapr.yaml of this folder if not given
    #[arg(short = 'f', long)]
    run_file: Option<PathBuf>,
    /// How to print: text, or json for one object with file and line each
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
    /// Logs in Kubernetes
    #[arg(short = 'k', long, hide = true)]
    kubernetes: bool,
    /// A pod in Kubernetes
    #[arg(short = 'p', long, hide = true)]
    pod_name: Option<String>,
    /// A namespace in Kubernetes
    #[arg(short = 'n', long, hide = true)]
    namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    All,
    App,
    Daprd,
}

impl Source {
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::All => &["app", "daprd"],
            Self::App => &["app"],
            Self::Daprd => &["daprd"],
        }
    }
}

pub(super) fn main(flags: &LogsFlags, around: &Surroundings) -> Result<ExitCode> {
    // Logs of pods are the only ones that `dapr logs` has: whoever names a pod or a namespace wants no other.
    for (flag, given) in [
        ("--kubernetes", flags.kubernetes),
        ("--pod-name", flags.pod_name.is_some()),
        ("--namespace", flags.namespace.is_some()),
    ] {
        if given {
            bail!("{flag} is not served by this version; without it the logs of this machine are printed");
        }
    }
    let paths = wait_for(find(flags, around))?;
    let mut printer = Printer {
        several: paths.len() > 1,
        json: flags.output == TextFormat::Json,
        rest: HashMap::new(),
        last: None,
    };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut reader = BufReader::new(file);
        let text = match flags.tail {
            Some(lines) => last_lines(&mut reader, lines.min(MAX_TAIL))?,
            None => Vec::new(),
        };
        if flags.tail.is_some() {
            printer.print(&path, &text)?;
        } else {
            printer.copy(&path, &mut reader)?;
        }
        files.push((path, reader));
    }
    if !flags.follow {
        printer.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    wait_for(async {
        loop {
            tokio::time::sleep(LOOK).await;
            for (path, reader) in &mut files {
                // A file that was cut starts anew.
                let length = reader.get_ref().metadata().map_or(0, |metadata| metadata.len());
                if reader.stream_position().context("cannot read")? > length {
                    reader.seek(SeekFrom::Start(0)).context("cannot read")?;
                }
                printer.copy(path, reader)?;
            }
        }
    })
}

/// The files: of the instances that run, else of the newest run of that app.
async fn find(flags: &LogsFlags, around: &Surroundings) -> Result<Vec<PathBuf>> {
    let kinds = flags.source.kinds();
    let running: Vec<_> = sidecars::list()
        .await
        .into_iter()
        .filter(|sidecar| sidecar.app_id == flags.app_id)
        .collect();
    let mut paths = Vec::new();
    for sidecar in &running {
        for kind in kinds {
            let path = sidecar.attribute(if *kind == "app" {
                "appLogPath"
            } else {
                "daprdLogPath"
            });
            if !path.is_empty() {
                paths.push(PathBuf::from(path));
            }
        }
    }
    if !paths.is_empty() {
        return Ok(paths);
    }
    let folders = folders(flags, around)?;
    for folder in &folders {
        for kind in kinds {
            paths.extend(newest(folder, &flags.app_id, kind));
        }
    }
    if !paths.is_empty() {
        return Ok(paths);
    }
    if running.is_empty() {
        let looked: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        bail!(
            "couldn't find app id {}: it does not run, and there are no logs of it in {}",
            flags.app_id,
            looked.join(", ")
        );
    }
    bail!(
        "app id {} writes no log files: only apps of a run file do, others print on their terminal",
        flags.app_id
    )
}

/// Log folders of the apps that may be meant.
fn folders(flags: &LogsFlags, around: &Surroundings) -> Result<Vec<PathBuf>> {
    let mut folders = vec![around.working_dir.join(".dapr/logs")];
    let default = around.working_dir.join("dapr.yaml");
    let file = match &flags.run_file {
        Some(path) => Some(run_file::locate(path)?),
        None => Some(default).filter(|path| path.is_file()),
    };
    if let Some(file) = file {
        let file = run_file::read(&file, &around.working_dir, &around.folders)?;
        for app in file.apps.iter().filter(|app| app.app_id == flags.app_id) {
            folders.extend(app.dir.as_ref().map(|dir| dir.join(".dapr/logs")));
        }
    }
    folders.dedup();
    Ok(folders)
}

/// The newest files of an app in a folder, one for each of its instances.
fn newest(folder: &Path, app_id: &str, kind: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(String, String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (label, time) = name.strip_suffix(".log")?.rsplit_once(&format!("_{kind}_"))?;
            let number = label.strip_prefix(app_id)?;
            let of_app = number.is_empty()
                || number
                    .strip_prefix('-')
                    .is_some_and(|number| number.parse::<u16>().is_ok());
            of_app.then(|| (time.to_owned(), label.to_owned(), entry.path()))
        })
        .collect();
    found.sort();
    let Some(latest) = found.last().map(|(time, ..)| time.clone()) else {
        return Vec::new();
    };
    // Instances of one run start within moments, not in the same second.
    let mut newest: Vec<(String, PathBuf)> = Vec::new();
    for (time, label, path) in found.into_iter().rev() {
        let near = latest
            .parse::<u64>()
            .unwrap_or(0)
            .saturating_sub(time.parse().unwrap_or(0))
            <= 2;
        if near && !newest.iter().any(|(known, _)| *known == label) {
            newest.push((label, path));
        }
    }
    newest.sort();
    newest.into_iter().map(|(_, path)| path).collect()
}

/// The newest files of these apps and their sidecars in a folder.
pub(crate) fn newest_of(folder: &Path, app_ids: &[String]) -> Vec<PathBuf> {
    let kinds = Source::All.kinds();
    app_ids
        .iter()
        .flat_map(|app_id| kinds.iter().flat_map(move |kind| newest(folder, app_id, kind)))
        .collect()
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let text = last_lines(&mut BufReader::new(file), lines)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn last_lines(reader: &mut BufReader<File>, count: usize) -> Result<Vec<u8>> {
    let mut lines = VecDeque::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).context("cannot read")? == 0 {
            break;
        }
        lines.push_back(line);
        if lines.len() > count {
            lines.pop_front();
        }
    }
    Ok(lines.into_iter().flatten().collect())
}

/// Prints pieces of files, with a heading whenever the file changes, as `tail` does.
struct Printer {
    several: bool,
    json: bool,
    /// Lines that are not complete yet, by file; for JSON.
    rest: HashMap<PathBuf, Vec<u8>>,
    last: Option<PathBuf>,
}

/// Longest line kept until its end comes; a longer one is printed in pieces.
const MAX_LINE: usize = 1 << 20;

impl Printer {
    fn print(&mut self, path: &Path, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.json {
            return self.objects(path, text);
        }
        let mut output = std::io::stdout().lock();
        if self.several && self.last.as_deref() != Some(path) {
            let gap = if self.last.is_some() { "\n" } else { "" };
            writeln!(output, "{gap}==> {} <==", path.display()).context("cannot print")?;
            self.last = Some(path.to_owned());
        }
        output
            .write_all(text)
            .and_then(|()| output.flush())
            .context("cannot print")
    }

    /// Prints each complete line as an object.
    fn objects(&mut self, path: &Path, text: &[u8]) -> Result<()> {
        let mut rest = self.rest.remove(path).unwrap_or_default();
        rest.extend_from_slice(text);
        let mut lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
        let last = lines.pop().unwrap_or_default();
        let whole = last.len() >= MAX_LINE;
        for line in lines.into_iter().chain(whole.then_some(last)) {
            object(path, line)?;
        }
        if !whole {
            let last = last.to_vec();
            self.rest.insert(path.to_owned(), last);
        }
        Ok(())
    }

    /// Prints what has no line end.
    fn finish(self) -> Result<()> {
        for (path, line) in self.rest.iter().filter(|(_, line)| !line.is_empty()) {
            object(path, line)?;
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path, reader: &mut BufReader<File>) -> Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = reader.read(&mut chunk).context("cannot read")?;
            if read == 0 {
                return Ok(());
            }
            self.print(path, &chunk[..read])?;
        }
    }
}

fn object(path: &Path, line: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(line);
    let object = serde_json::json!({ "file": path, "line": text.trim_end_matches('\r') });
    output::print(format!("{object}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_of_each_instance_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        for name in [
            "tasks-1_app_20260101100000.log",
            "tasks-1_app_20260101110000.log",
            "tasks-2_app_20260101110001.log",
            "tasks_app_20250101110001.log",
            "tasks-2_daprd_20260101110001.log",
            "tasks-other_app_20260101110001.log",
        ] {
            std::fs::write(temporary.path().join(name), "").unwrap();
        }
        let names: Vec<String> = newest(temporary.path(), "tasks", "app")
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            ["tasks-1_app_20260101110000.log", "tasks-2_app_20260101110001.log"]
        );
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.log");
        std::fs::write(&path, "1\n2\n3\nrest").unwrap();
        let mut reader = BufReader::new(File::open(path).unwrap());
        assert_eq!(last_lines(&mut reader, 2).unwrap(), b"3\nrest");
    }
}
