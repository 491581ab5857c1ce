//! Gives back the resident pages of a process that only its start-up needed.
//!
//! Start-up runs code that is never run again: flag parsing, component set-up, TLS configuration, schema creation. The
//! kernel maps the program file in pieces of 64 KiB and more around every page that is touched, and keeps them mapped
//! for as long as nothing presses on memory. Two thirds of an idle sidecar's resident set are such pages. They are clean
//! copies of a file, so to unmap them costs one system call per mapping, and what is still needed comes back from the page cache
//! by itself, a microsecond per piece ([ADR 0008](../../../../docs/adr/0008-give-back-start-up-pages.md)).
//!
//! The workspace forbids `unsafe`; this crate exists to hold the one call that needs it.

mod mappings;

#[cfg(target_os = "linux")]
use mappings::Mapping;

/// Unmaps every resident page of the process that is an unaltered copy of a read-only file mapping: program text and
/// constants, its libraries'. Returns how many bytes were resident there before.
///
/// Blocks for as long as reading `/proc/self/smaps` takes, about a millisecond. Threads that run meanwhile fault their
/// pages in again and notice nothing else.
///
/// # Errors
/// The kernel's, with whatever came before already given back. Elsewhere than on Linux nothing is done.
pub fn give_back_clean_pages() -> std::io::Result<u64> {
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string("/proc/self/smaps")?;
        let mut given = 0;
        for mapping in mappings::parse(&text).filter(Mapping::is_clean_copy_of_a_file) {
            unmap(&mapping)?;
            given += mapping.resident;
        }
        Ok(given)
    }
    #[cfg(not(target_os = "linux"))]
    Ok(0)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "madvise takes an address")]
fn unmap(mapping: &Mapping) -> std::io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(mapping.start);
    // SAFETY: the range was read from this process's own list of mappings. It is a private mapping of a file without
    // write permission and with no page of its own (`Anonymous: 0`), so every page is what the file holds, and after
    // this call reads give the file's bytes again: no value that Rust could have a reference to changes. The mapping
    // itself stays. Were it gone since (`dlclose`, which this program never calls), the kernel answers ENOMEM.
    unsafe { rustix::mm::madvise(start, mapping.length, rustix::mm::Advice::LinuxDontNeed) }?;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn gives_pages_back_and_the_process_goes_on() {
        let other = std::thread::spawn(|| {
            (0..200_000_u64)
                .map(|number| number.to_string().len())
                .sum::<usize>()
        });
        let before = resident();
        let given = super::give_back_clean_pages().unwrap();
        assert!(given > 0, "a running program has clean pages");
        assert!(resident() < before, "{} after {before}", resident());
        assert_eq!(other.join().unwrap(), 1_088_890);
        // Constants and code are still what they were.
        assert_eq!(format!("{:?}", ("text", 1.5)), "(\"text\", 1.5)");
    }
}
