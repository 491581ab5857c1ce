//! Doorbells: Unix datagram sockets in a private folder beside the database, so that a subscriber in another
//! process wakes at once. Best effort: whoever misses a ring looks at the file by itself soon after.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
            net::UnixDatagram as StdDatagram,
        },
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixDatagram;

/// What fits into `sun_path` for certain on every system.
const MAX_ADDRESS: usize = 100;
/// Kind byte and topic id.
const RING_LEN: usize = 9;
const KIND_PROBE: u8 = 0;
const KIND_RING: u8 = 1;

/// What became of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Delivered, or the bell has rings waiting, or nobody can say.
    Perhaps,
    /// Nobody holds the socket any more: its process is gone.
    Dead,
}

/// The folder and this component's own bell in it.
#[derive(Debug)]
pub(super) struct Doorbell {
    folder: PathBuf,
    /// Kept open to reach sockets whose plain path would be too long.
    handle: File,
    name: String,
    own: UnixDatagram,
    sender: StdDatagram,
}

impl Doorbell {
    /// Makes the folder if need be and hangs up a bell of our own.
    pub(super) fn hang(database: &Path, name: String) -> io::Result<Self> {
        let folder = folder(database);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        if fs::symlink_metadata(&folder)?.permissions().mode() & 0o777 != 0o700 {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        }
        let handle = File::open(&folder)?;
        let sender = StdDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        let own = StdDatagram::bind(address(&folder, &handle, &name))?;
        own.set_nonblocking(true)?;
        Ok(Self {
            own: UnixDatagram::from_std(own)?,
            folder,
            handle,
            name,
            sender,
        })
    }

    /// The name by which others ring this bell.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tells a bell that its topic has news.
    pub(super) fn ring(&self, bell: &str, topic: i64) -> Heard {
        self.send(bell, KIND_RING, topic)
    }

    /// Finds out whether somebody still listens, without waking subscriptions.
    pub(super) fn probe(&self, bell: &str) -> Heard {
        self.send(bell, KIND_PROBE, 0)
    }

    fn send(&self, bell: &str, kind: u8, topic: i64) -> Heard {
        // Names come from a shared file: never leave the folder.
        if bell.is_empty() || !bell.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Heard::Perhaps;
        }
        let mut ring = [kind; RING_LEN];
        ring[1..].copy_from_slice(&topic.to_be_bytes());
        match self
            .sender
            .send_to(&ring, address(&self.folder, &self.handle, bell))
        {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Heard::Dead,
            _ => Heard::Perhaps,
        }
    }

    /// Waits for a ring; answers the topic.
    pub(super) async fn rung(&self) -> io::Result<i64> {
        loop {
            let mut ring = [0; RING_LEN + 1];
            let len = self.own.recv(&mut ring).await?;
            if len == RING_LEN
                && ring[0] == KIND_RING
                && let Some(topic) = ring[1..].first_chunk()
            {
                return Ok(i64::from_be_bytes(*topic));
            }
        }
    }

    /// The bells nobody listens on: their processes were killed. Their files stay until [`Doorbell::remove`], so
    /// that they are found dead until somebody has taken over what they held.
    pub(super) fn dead(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|bell| *bell != self.name && self.probe(bell) == Heard::Dead)
            .collect()
    }

    /// Removes the file of a bell found dead.
    pub(super) fn remove(&self, bell: &str) {
        if bell.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            // It may be gone already; the folder stays for others.
            let _ = fs::remove_file(self.folder.join(bell));
        }
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.remove(&self.name);
    }
}

/// The folder beside a database by which its processes meet.
pub(super) fn folder(database: &Path) -> PathBuf {
    let mut folder = database.as_os_str().to_owned();
    folder.push("-doorbells");
    PathBuf::from(folder)
}

fn address(folder: &Path, handle: &File, name: &str) -> PathBuf {
    let plain = folder.join(name);
    if plain.as_os_str().len() <= MAX_ADDRESS {
        plain
    } else {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_and_a_dead_bell_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("pubsub.db");
        let one = Doorbell::hang(&database, "one".to_owned()).unwrap();
        let two = Doorbell::hang(&database, "two".to_owned()).unwrap();
        assert_eq!(two.probe("one"), Heard::Perhaps);
        assert_eq!(two.ring("one", 42), Heard::Perhaps);
        assert_eq!(one.rung().await.unwrap(), 42, "a probe is no ring");

        let bells = folder.path().join("pubsub.db-doorbells");
        assert_eq!(fs::metadata(&bells).unwrap().permissions().mode() & 0o777, 0o700);
        // A process that was killed leaves its file behind.
        drop(StdDatagram::bind(bells.join("killed")).unwrap());
        assert_eq!(one.ring("killed", 1), Heard::Dead);
        assert_eq!(one.ring("absent", 1), Heard::Perhaps);
        assert_eq!(one.ring("../one", 1), Heard::Perhaps);
        let three = Doorbell::hang(&database, "three".to_owned()).unwrap();
        assert_eq!(three.dead(), ["killed"]);
        three.remove("killed");
        assert!(three.dead().is_empty());
        assert!(bells.join("one").exists() && bells.join("three").exists());
        drop(three);
        assert!(!bells.join("three").exists());
    }

    #[tokio::test]
    async fn long_paths_work() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let bell = Doorbell::hang(&deep.join("pubsub.db"), "bell".to_owned()).unwrap();
        assert_eq!(bell.ring("bell", 7), Heard::Perhaps);
        assert_eq!(bell.rung().await.unwrap(), 7);
    }
}
