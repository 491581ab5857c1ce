//! `$VAR` and `${VAR}` in Configuration files, as Go's `os.ExpandEnv` replaces them.

use outrigger_types::Environment;

/// Replaces every `$VAR` and `${VAR}`; a variable that is not set becomes nothing (wire.md §14).
#[must_use]
pub fn expand_environment(text: &str, environment: &Environment) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, used) = shell_name(rest);
        match name {
            Some(name) => out.push_str(environment.get(name).unwrap_or_default()),
            // Broken syntax such as `${}` disappears; a dollar sign before anything else stays.
            None if used > 0 => {}
            None => out.push('$'),
        }
        rest = &rest[used..];
    }
    out.push_str(rest);
    out
}

/// The name after a dollar sign and how many bytes it takes.
fn shell_name(text: &str) -> (Option<&str>, usize) {
    let is_special = |b: u8| matches!(b, b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9');
    let bytes = text.as_bytes();
    match bytes.first() {
        None => (None, 0),
        Some(b'{') => {
            if bytes.len() > 2 && is_special(bytes[1]) && bytes[2] == b'}' {
                return (Some(&text[1..2]), 3);
            }
            match text.find('}') {
                Some(1) => (None, 2),
                Some(end) => (Some(&text[1..end]), end + 1),
                None => (None, 1),
            }
        }
        Some(first) if is_special(*first) => (Some(&text[..1]), 1),
        Some(_) => {
            let end = bytes
                .iter()
                .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))
                .unwrap_or(bytes.len());
            if end == 0 {
                (None, 0)
            } else {
                (Some(&text[..end]), end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_as_go_does() {
        let environment = Environment::from_pairs([("A", "1"), ("LONG_NAME", "x y")]);
        for (text, expected) in [
            ("$A-${A}-$LONG_NAME", "1-1-x y"),
            ("${MISSING}$MISSING.", "."),
            ("cost: 5$ now", "cost: 5$ now"),
            ("${}${", ""),
            ("${unclosed", "unclosed"),
            ("$$A", "A"),
            ("a$", "a$"),
            ("$1x", "x"),
            ("${A}é$é", "1é$é"),
        ] {
            assert_eq!(expand_environment(text, &environment), expected, "{text}");
        }
    }
}
