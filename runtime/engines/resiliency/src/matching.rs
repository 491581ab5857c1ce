//! Which status codes a retry policy retries (upstream `pkg/resiliency/retry.go`).

/// A status code an operation failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status.
    Grpc(i32),
}

/// A list of codes that cannot be read; the text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

type Range = std::ops::RangeInclusive<i32>;

const HTTP: Range = 100..=599;
const GRPC: Range = 0..=16;

/// The codes to retry, per protocol; `None` where the list is absent, which retries every valid code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusMatch {
    http: Option<Vec<Range>>,
    grpc: Option<Vec<Range>>,
}

impl StatusMatch {
    /// Reads both lists.
    ///
    /// # Errors
    /// When a pattern is no code or range, or outside its protocol's codes.
    pub fn parse(http: &str, grpc: &str) -> Result<Self, PatternError> {
        Ok(Self {
            http: parse_list(http, &HTTP)?,
            grpc: parse_list(grpc, &GRPC)?,
        })
    }

    /// Whether a failure with this code is retried. What lies in neither protocol's range never is.
    #[must_use]
    pub fn needs_retry(&self, code: Code) -> bool {
        // Upstream tells the protocols apart by the number alone; so do we, since a code of one kind may be
        // carried where the other is expected.
        let code = match code {
            Code::Http(code) => i32::from(code),
            Code::Grpc(code) => code,
        };
        let list = if GRPC.contains(&code) {
            &self.grpc
        } else if HTTP.contains(&code) {
            &self.http
        } else {
            return false;
        };
        list.as_ref()
            .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&code)))
    }
}

fn parse_list(text: &str, valid: &Range) -> Result<Option<Vec<Range>>, PatternError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.split(',')
        .filter(|pattern| !pattern.is_empty())
        .map(|pattern| parse_pattern(pattern, valid))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn parse_pattern(pattern: &str, valid: &Range) -> Result<Range, PatternError> {
    let mut parts = pattern.split('-');
    let start_text = parts.next().unwrap_or_default();
    let end_text = parts.next();
    if parts.next().is_some() {
        return Err(PatternError(format!(
            "invalid pattern {pattern}, more than one '-' exists"
        )));
    }
    let bound = |which: &str, text: &str| -> Result<i32, PatternError> {
        let code: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
            let reason = match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            PatternError(format!(
                "failed to parse {which} code {text} from pattern {pattern} to int, strconv.Atoi: parsing {text:?}: {reason}"
            ))
        })?;
        i32::try_from(code)
            .ok()
            .filter(|code| valid.contains(code))
            .ok_or_else(|| {
                PatternError(format!(
                    "invalid pattern {pattern}, {which} code {code} is not valid"
                ))
            })
    };
    let start = bound("start", start_text)?;
    let end = end_text.map_or(Ok(start), |text| bound("end", text))?;
    if end < start {
        return Err(PatternError(format!(
            "invalid pattern {pattern}, start value should not bigger than end value"
        )));
    }
    Ok(start..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let lists = StatusMatch::parse("500,502-504,,429", "1-3,14").unwrap();
        for (code, retry) in [
            (Code::Http(500), true),
            (Code::Http(501), false),
            (Code::Http(503), true),
            (Code::Http(429), true),
            (Code::Http(404), false),
            (Code::Http(700), false),
            (Code::Grpc(0), false),
            (Code::Grpc(2), true),
            (Code::Grpc(14), true),
            (Code::Grpc(15), false),
            (Code::Grpc(17), false),
        ] {
            assert_eq!(lists.needs_retry(code), retry, "{code:?}");
        }
    }

    #[test]
    fn an_absent_list_retries_all_but_an_empty_one_nothing() {
        let all = StatusMatch::default();
        assert!(
            all.needs_retry(Code::Http(404))
                && all.needs_retry(Code::Grpc(5))
                && !all.needs_retry(Code::Http(600))
        );
        let only_grpc = StatusMatch::parse("", "14").unwrap();
        assert!(only_grpc.needs_retry(Code::Http(404)) && !only_grpc.needs_retry(Code::Grpc(5)));
        let commas = StatusMatch::parse(",", "").unwrap();
        assert!(!commas.needs_retry(Code::Http(500)));
    }

    #[test]
    fn mistakes_in_upstreams_words() {
        for (http, error) in [
            (
                "500-501-502",
                "invalid pattern 500-501-502, more than one '-' exists",
            ),
            (
                "5xx",
                "failed to parse start code 5xx from pattern 5xx to int, strconv.Atoi: parsing \"5xx\": invalid syntax",
            ),
            ("99", "invalid pattern 99, start code 99 is not valid"),
            ("500-600", "invalid pattern 500-600, end code 600 is not valid"),
            (
                "504-500",
                "invalid pattern 504-500, start value should not bigger than end value",
            ),
            (
                "500-",
                "failed to parse end code  from pattern 500- to int, strconv.Atoi: parsing \"\": invalid syntax",
            ),
        ] {
            assert_eq!(StatusMatch::parse(http, "").unwrap_err().to_string(), error);
        }
        assert!(StatusMatch::parse("", "17").is_err());
    }
}
