//! Path templates: `/v1.0/hello/{name}` or, with a pattern, `/v1.0/hello/{id:[0-9]+}`.
//!
//! The rules are those of the Go router that upstream uses: a name matches one path segment unless it says
//! otherwise, a template matches whole paths, patterns capture nothing of their own.

use regex::Regex;

/// A template ready to match.
#[derive(Debug)]
pub(crate) struct Template {
    pattern: Regex,
    names: Vec<String>,
}

impl Template {
    /// Compiles a template; the error says what is wrong with it.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("it must start with a slash".to_owned());
        }
        let mut pattern = String::from("^");
        let mut names: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            pattern.push_str(&regex::escape(&rest[..start]));
            let inner = braced(&rest[start..]).ok_or("its braces are not balanced")?;
            let (name, own) = inner.split_once(':').unwrap_or((inner, "[^/]+"));
            if name.is_empty() || own.is_empty() {
                return Err(format!("a name or pattern is missing in {{{inner}}}"));
            }
            if names.iter().any(|known| known == name) {
                return Err(format!("the name {name} occurs twice"));
            }
            pattern.push('(');
            pattern.push_str(own);
            pattern.push(')');
            names.push(name.to_owned());
            rest = &rest[start + inner.len() + 2..];
        }
        pattern.push_str(&regex::escape(rest));
        pattern.push('$');
        let pattern = Regex::new(&pattern).map_err(|error| error.to_string())?;
        if pattern.captures_len() != names.len() + 1 {
            return Err("its patterns must not capture; write (?:…)".to_owned());
        }
        Ok(Self { pattern, names })
    }

    /// The names and their values where the whole path matches.
    pub(crate) fn matches<'a>(&'a self, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let captures = self.pattern.captures(path)?;
        let values = captures
            .iter()
            .skip(1)
            .map(|value| value.map_or("", |value| value.as_str()));
        Some(self.names.iter().map(String::as_str).zip(values).collect())
    }
}

/// What stands between the brace at the start and the one that closes it.
fn braced(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (position, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return text.get(1..position);
                }
            }
            _ => {}
        }
    }
    None
}
