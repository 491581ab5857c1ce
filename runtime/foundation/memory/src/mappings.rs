//! The mappings of a process as `/proc/<pid>/smaps` tells them (proc(5)).

/// One mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: usize,
    /// In bytes.
    pub(crate) length: usize,
    /// Bytes in memory.
    pub(crate) resident: u64,
    /// Bytes that are the process's own, no longer the file's.
    anonymous: u64,
    /// Neither written nor shared with writers: `r--p` or `r-xp`.
    read_only: bool,
    of_file: bool,
}

impl Mapping {
    /// Whether the file alone can restore every page.
    pub(crate) fn is_clean_copy_of_a_file(&self) -> bool {
        self.of_file && self.read_only && self.anonymous == 0 && self.resident > 0
    }

    fn parse(head: &str) -> Option<Self> {
        let mut fields = head.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let inode = fields.nth(2)?;
        let start = usize::from_str_radix(start, 16).ok()?;
        Some(Self {
            start,
            length: usize::from_str_radix(end, 16).ok()?.checked_sub(start)?,
            resident: 0,
            // Until told otherwise, nothing may be touched.
            anonymous: u64::MAX,
            read_only: matches!(permissions, "r--p" | "r-xp"),
            // Kernel pages (`[vdso]`) and memory have none.
            of_file: inode != "0",
        })
    }
}

/// Reads the list; what it does not understand it leaves out.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = Mapping> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let Some(mut mapping) = Mapping::parse(lines.next()?) else {
                continue;
            };
            while let Some((name, value)) = lines.peek().and_then(|line| field(line)) {
                match name {
                    "Rss" => mapping.resident = kilobytes(value).unwrap_or(0),
                    "Anonymous" => mapping.anonymous = kilobytes(value).unwrap_or(u64::MAX),
                    _ => {}
                }
                lines.next();
            }
            return Some(mapping);
        }
    })
}

/// `Rss:   12 kB`, in contrast to the head of a mapping, whose first word does not end with a colon.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    (!name.contains(' ')).then_some((name, value))
}

fn kilobytes(value: &str) -> Option<u64> {
    let number = value.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00500000 r-xp 00001000 fe:00 42                                 /usr/bin/a program
Size:               1024 kB
Rss:                 512 kB
Pss:                 512 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me 
00500000-00510000 r--p 00101000 fe:00 42                                 /usr/bin/a program
Rss:                  64 kB
Anonymous:            64 kB
VmFlags: rd mr mw me ac 
00510000-00520000 rw-p 00111000 fe:00 42                                 /usr/bin/a program
Rss:                  64 kB
Anonymous:             0 kB
00600000-00700000 r--p 00000000 00:00 0 
Rss:                   8 kB
Anonymous:             0 kB
00700000-00702000 r-xp 00000000 00:00 0                                  [vdso]
Rss:                   8 kB
Anonymous:             0 kB
00800000-00900000 r--s 00000000 fe:00 43                                 /var/data.db-shm
Rss:                   8 kB
Anonymous:             0 kB
00900000-00a00000 r--p 00000000 fe:00 44                                 /usr/lib/half-read
Rss:                   8 kB
";

    #[test]
    fn only_unaltered_private_read_only_file_pages_are_given_back() {
        let all: Vec<_> = parse(SMAPS).collect();
        assert_eq!(all.len(), 7);
        let clean: Vec<_> = all
            .iter()
            .filter(|mapping| mapping.is_clean_copy_of_a_file())
            .collect();
        // Relocated, writable, without a file, the kernel's, shared, and untold are none.
        assert_eq!(clean.len(), 1, "{clean:?}");
        assert_eq!(
            (clean[0].start, clean[0].length, clean[0].resident),
            (0x40_0000, 0x10_0000, 512 * 1024)
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(parse("").count(), 0);
        assert_eq!(parse("Rss: 1 kB\nzz-yy r-xp 0 0 1\n-\n00-\n").count(), 0);
        assert_eq!(parse("20-10 r-xp 0 0 1 /a\nRss: x\n").count(), 0);
    }
}
