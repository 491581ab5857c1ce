//! What the kernel offers to build walls from.

use std::fmt;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};

/// The walls this kernel has. Found by asking it; the asking process is not confined by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Landlock's version, 0 if it is not built in or not switched on.
    pub landlock: u8,
    /// Whether there are seccomp filters.
    pub seccomp: bool,
}

/// From this version on files can neither be written nor cut short.
pub(crate) const LEAST_LANDLOCK: u8 = 3;

impl Support {
    /// Asks the kernel.
    pub fn of_this_kernel() -> Self {
        Self {
            landlock: landlock_version(),
            // The line is there if, and only if, the kernel was built with seccomp.
            seccomp: std::fs::read_to_string("/proc/self/status")
                .is_ok_and(|status| status.lines().any(|line| line.starts_with("Seccomp:"))),
        }
    }

    /// Whether programs can be confined as promised.
    pub fn is_enough(self) -> bool {
        self.landlock >= LEAST_LANDLOCK && self.seccomp
    }

    /// A word for health answers: `confined`, or what is missing.
    pub fn word(self) -> &'static str {
        match self {
            Self { seccomp: false, .. } => "no-seccomp",
            Self { landlock: 0, .. } => "no-landlock",
            Self {
                landlock: 1..LEAST_LANDLOCK,
                ..
            } => "old-landlock",
            _ => "confined",
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            0 => write!(
                f,
                "no Landlock (Linux 6.2 or later with lsm=…,landlock is needed)"
            )?,
            version => write!(f, "Landlock {version}")?,
        }
        write!(f, ", {}", if self.seccomp { "seccomp" } else { "no seccomp" })
    }
}

/// The highest version whose new right the kernel knows.
fn landlock_version() -> u8 {
    let knows = |rules: Result<Ruleset, landlock::RulesetError>| rules.and_then(Ruleset::create).is_ok();
    let rules = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if knows(rules().scope(Scope::Signal)) {
        6
    } else if knows(rules().handle_access(AccessFs::IoctlDev)) {
        5
    } else if knows(rules().handle_access(AccessNet::ConnectTcp)) {
        4
    } else if knows(rules().handle_access(AccessFs::Truncate)) {
        3
    } else if knows(rules().handle_access(AccessFs::Refer)) {
        2
    } else {
        u8::from(knows(rules().handle_access(AccessFs::from_all(ABI::V1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_wall_has_a_word() {
        let word = |landlock, seccomp| Support { landlock, seccomp }.word();
        assert_eq!(word(6, true), "confined");
        assert_eq!(word(0, true), "no-landlock");
        assert_eq!(word(2, true), "old-landlock");
        assert_eq!(word(6, false), "no-seccomp");
        let missing = Support {
            landlock: 0,
            seccomp: true,
        };
        assert!(!missing.is_enough());
        assert!(missing.to_string().starts_with("no Landlock"), "{missing}");
    }

    #[test]
    fn asking_confines_nobody() {
        let support = Support::of_this_kernel();
        assert_eq!(Support::of_this_kernel(), support);
        assert!(std::fs::read("/etc/passwd").is_ok());
    }
}
