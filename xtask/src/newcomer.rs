//! The newcomer's minute: what the README's first section asks of a reader who has the archive, done and timed.
//!
//! Its first block of commands is run as it is written, in a folder that holds nothing but the archive, until the page
//! answers and a session is open. To the machine's seconds come those of a slow reader and a slow typist.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    bench::http,
    process::{Service, until},
    repo,
};

/// Of the README: the section that is for those who have the archive.
const SECTION: &str = "## From the archive";
/// Words of prose a minute; readers of plain text manage 200 to 250.
const READS: f64 = 200.0;
/// Characters a minute; 40 words of five characters is the usual average.
const TYPES: f64 = 200.0;
/// What all of it may take, in seconds.
const LIMIT: f64 = 60.0;
/// For the machine to give up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Follows the README with this archive.
///
/// # Errors
/// When a command fails, the page does not come, no session can be opened, or all of it takes longer than a minute.
pub(crate) fn follow(archive: &Path) -> anyhow::Result<()> {
    let readme = fs::read_to_string(repo::root().join("README.md")).context("read README.md")?;
    let task = Task::of(&readme).context("README.md: no block of commands in the archive's section")?;
    let folder = repo::target().join("newcomer");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    let desk = folder.join("desk");
    fs::create_dir_all(&desk).with_context(|| format!("create {}", desk.display()))?;
    let name = archive.file_name().context("an archive has a name")?;
    fs::copy(archive, desk.join(name)).context("copy the archive")?;
    let log = folder.join("log");
    let begun = Instant::now();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-ec", &task.commands])
        .current_dir(&desk)
        // Nobody's settings, data or builds.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &folder);
    let mut app = Service::start("the README's commands", &mut shell, &log)?;
    let mut page = None;
    until("the todo page is there", PATIENCE, || {
        app.ensure_running()
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        page = port(&fs::read_to_string(&log)?);
        Ok(page.is_some_and(|port| http::succeeds(port, "/")))
    })?;
    let shown = begun.elapsed().as_secs_f64();
    let port = page.context("the page's address is known")?;
    // Written to the state store through a sidecar.
    until("a session can be opened", PATIENCE, || {
        Ok(http::succeeds(port, "/api/session"))
    })?;
    let worked = begun.elapsed().as_secs_f64();
    app.interrupt()?;
    let (reading, typing) = (
        task.words as f64 / READS * 60.0,
        task.characters as f64 / TYPES * 60.0,
    );
    println!("newcomer: from the archive to the todo app, by the README");
    println!(
        "  reading {:>4} words       {reading:>6.1} s  at {READS} words a minute",
        task.words
    );
    println!(
        "  typing  {:>4} characters  {typing:>6.1} s  at {TYPES} characters a minute",
        task.characters
    );
    println!("  the page answers         {shown:>6.1} s  after the last key");
    println!("  a session is open        {worked:>6.1} s");
    let all = reading + typing + worked;
    println!("  in all                   {all:>6.1} s  of {LIMIT}");
    ensure!(all <= LIMIT, "the newcomer's minute takes {all:.1} s");
    Ok(())
}

/// What the section asks for, up to the end of its first block.
#[derive(Debug, PartialEq)]
struct Task {
    /// For a shell, as written.
    commands: String,
    /// Words to be read, comments in the commands among them.
    words: usize,
    /// Characters to be typed, line ends among them.
    characters: usize,
}

impl Task {
    fn of(readme: &str) -> Option<Self> {
        let section = &readme[readme.find(SECTION)?..];
        let mut parts = section.splitn(3, "\n```");
        let prose = parts.next()?;
        // The rest of the fence's line may name a language.
        let commands = parts.next()?.split_once('\n')?.1.to_owned();
        let (mut words, mut characters) = (prose.split_whitespace().count(), 0);
        for line in commands.lines() {
            let (typed, comment) = line.split_once(" #").unwrap_or((line, ""));
            characters += typed.trim().chars().count() + 1;
            words += typed.split_whitespace().count() + comment.split_whitespace().count();
        }
        Some(Self {
            commands,
            words,
            characters,
        })
    }
}

/// Of the line that tells the page's address.
fn port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("The todo page is at http://127.0.0.1:")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_counted_up_to_the_end_of_the_first_block() {
        let readme = "# X\n\nBefore.\n\n## From the archive: a minute\n\nNo compiler:\n\n```sh\ncd x\n./y run   # see it\n```\n\nLater.";
        let task = Task::of(readme).unwrap();
        assert_eq!(task.commands, "cd x\n./y run   # see it");
        assert_eq!(task.characters, 5 + 8);
        assert_eq!(task.words, 6 + 2 + 2 + 2 + 2);
    }

    #[test]
    fn the_address_is_found_whatever_stands_before_it() {
        assert_eq!(
            port("gateway | The todo page is at http://127.0.0.1:8081/\n"),
            Some(8081)
        );
        assert_eq!(port("starting"), None);
    }
}
