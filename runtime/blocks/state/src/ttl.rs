//! `ttlInSeconds`, read as each of Dapr's components reads it.

use std::num::IntErrorKind;

use outrigger_component::{Error, Metadata};

use crate::Ttl;

/// Metadata of a request that sets an item's time to live.
const NAME: &str = "ttlInSeconds";

/// How the component of the type upstream reads a time to live and words what is wrong with it; apps see the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TtlDialect {
    /// Below -1 is wrong (components-contrib `state/utils/ttl.go`, of the SQL stores).
    #[default]
    Sql,
    /// Anything below zero is for ever (`state/redis`).
    Redis,
    /// The same in other words (`state/in-memory`).
    Memory,
    /// The component reads the metadata itself, so nothing is wrong here.
    Own,
}

impl TtlDialect {
    /// Reads the time to live of a request's metadata. Times beyond 68 years end there.
    ///
    /// # Errors
    /// When it is no number, or a wrong one; in upstream's words.
    pub fn read(self, metadata: &Metadata) -> Result<Ttl, Error> {
        let Some(text) = metadata.get(NAME).filter(|text| !text.is_empty()) else {
            return Ok(Ttl::Default);
        };
        let seconds = match text.parse::<i64>() {
            Ok(seconds) => seconds,
            Err(_) if self == Self::Own => return Ok(Ttl::Default),
            Err(error) => return Err(self.no_number(text, error.kind())),
        };
        match u32::try_from(seconds.min(i64::from(i32::MAX))) {
            Ok(seconds) => Ok(Ttl::Seconds(seconds)),
            Err(_) if seconds == -1 || self != Self::Sql => Ok(Ttl::Never),
            Err(_) => Err(Error::invalid(format!(
                "error parsing TTL: incorrect value for metadata '{NAME}': must be -1 or greater"
            ))),
        }
    }

    fn no_number(self, text: &str, kind: &IntErrorKind) -> Error {
        let (before, function) = match self {
            Self::Sql => (
                "error parsing TTL: incorrect value for metadata 'ttlInSeconds': ",
                "ParseInt",
            ),
            Self::Redis => ("failed to parse ttl from metadata: ", "ParseInt"),
            Self::Memory | Self::Own => ("", "Atoi"),
        };
        let why = match kind {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Error::invalid(format!("{before}strconv.{function}: parsing {text:?}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: TtlDialect, text: &str) -> Result<Ttl, String> {
        let metadata = Metadata::from_iter([(NAME.to_owned(), text.to_owned())]);
        dialect.read(&metadata).map_err(|error| error.chain())
    }

    /// Texts of SQL and memory as measured beside daprd 1.18.2.
    #[test]
    fn wrong_times_are_told_in_the_words_of_the_component() {
        use TtlDialect::{Memory, Own, Redis, Sql};
        const HUGE: &str = "99999999999999999999";
        for (dialect, text, expected) in [
            (Sql, "", Ok(Ttl::Default)),
            (Sql, "5", Ok(Ttl::Seconds(5))),
            (Sql, "-1", Ok(Ttl::Never)),
            (Sql, "4000000000", Ok(Ttl::Seconds(i32::MAX as u32))),
            (
                Sql,
                "-5",
                Err("error parsing TTL: incorrect value for metadata 'ttlInSeconds': must be -1 or greater"),
            ),
            (
                Sql,
                "x",
                Err(
                    "error parsing TTL: incorrect value for metadata 'ttlInSeconds': strconv.ParseInt: parsing \"x\": invalid syntax",
                ),
            ),
            (
                Sql,
                HUGE,
                Err(
                    "error parsing TTL: incorrect value for metadata 'ttlInSeconds': strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
                ),
            ),
            (Memory, "-5", Ok(Ttl::Never)),
            (Memory, "x", Err("strconv.Atoi: parsing \"x\": invalid syntax")),
            (
                Memory,
                HUGE,
                Err("strconv.Atoi: parsing \"99999999999999999999\": value out of range"),
            ),
            (Own, "x", Ok(Ttl::Default)),
            (Redis, "-5", Ok(Ttl::Never)),
            (
                Redis,
                "x",
                Err("failed to parse ttl from metadata: strconv.ParseInt: parsing \"x\": invalid syntax"),
            ),
        ] {
            assert_eq!(
                read(dialect, text),
                expected.map_err(str::to_owned),
                "{dialect:?} {text}"
            );
        }
    }
}
