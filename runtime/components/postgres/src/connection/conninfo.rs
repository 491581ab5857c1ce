//! Connection strings: `postgres://…` and `keyword=value …`, as pgx v5 `pgconn/config.go` reads them.

use std::collections::BTreeMap;

use outrigger_component::Error;
use percent_encoding::percent_decode_str;

/// Keywords of libpq with their values; `dbname` is kept as `database`.
pub(super) type Keywords = BTreeMap<String, String>;

/// Reads either form. The text may hold a password, so no error repeats it.
///
/// # Errors
/// A configuration error that says what is wrong.
pub(super) fn parse(text: &str) -> Result<Keywords, Error> {
    let rest = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"));
    match rest {
        Some(rest) => url(rest),
        None => pairs(text),
    }
}

fn wrong(why: &str) -> Error {
    Error::configuration(format!("failed to parse connection string: {why}"))
}

fn name(keyword: &str) -> String {
    if keyword == "dbname" { "database" } else { keyword }.to_owned()
}

fn url(rest: &str) -> Result<Keywords, Error> {
    let mut keywords = Keywords::new();
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| wrong("an escaped part is not UTF-8"))
    };
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((credentials, hosts)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (credentials, None),
            };
            if !user.is_empty() {
                keywords.insert("user".into(), decoded(user)?);
            }
            if let Some(password) = password {
                keywords.insert("password".into(), decoded(password)?);
            }
            hosts
        }
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        // A colon inside brackets belongs to an IPv6 address.
        let end_of_address = host.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match host[end_of_address..].rfind(':') {
            Some(at) => (&host[..end_of_address + at], &host[end_of_address + at + 1..]),
            None => (host, ""),
        };
        if !host.is_empty() {
            names.push(decoded(host.trim_start_matches('[').trim_end_matches(']'))?);
        }
        if !port.is_empty() {
            ports.push(port.to_owned());
        }
    }
    if !names.is_empty() {
        keywords.insert("host".into(), names.join(","));
    }
    if !ports.is_empty() {
        keywords.insert("port".into(), ports.join(","));
    }
    let database = decoded(path.trim_start_matches('/'))?;
    if !database.is_empty() {
        keywords.insert("database".into(), database);
    }
    for (keyword, value) in form_urlencoded::parse(query.as_bytes()) {
        // The first of several counts in a URL.
        keywords
            .entry(name(&keyword))
            .or_insert_with(|| value.into_owned());
    }
    Ok(keywords)
}

fn pairs(text: &str) -> Result<Keywords, Error> {
    let mut keywords = Keywords::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest
            .split_once('=')
            .ok_or_else(|| wrong("invalid keyword/value"))?;
        let keyword = keyword.trim();
        if keyword.is_empty() {
            return Err(wrong("invalid keyword/value"));
        }
        let (value, after) = value(after.trim_start())?;
        if !(keyword == "user" && value.is_empty()) {
            keywords.insert(name(keyword), value);
        }
        rest = after.trim_start();
    }
    Ok(keywords)
}

/// A value, plain or in single quotes, with `\` before a character taken literally; and what comes after it.
fn value(text: &str) -> Result<(String, &str), Error> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err(wrong("invalid backslash")),
            },
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_ascii_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(wrong("unterminated quoted string in connection info string"));
    }
    Ok((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(
            read("postgres://me:p%40ss@db.example.com:5433,other/app?sslmode=disable&pool_max_conns=3"),
            expected(&[
                ("database", "app"),
                ("host", "db.example.com,other"),
                ("password", "p@ss"),
                ("pool_max_conns", "3"),
                ("port", "5433"),
                ("sslmode", "disable"),
                ("user", "me"),
            ])
        );
        assert_eq!(
            read("postgresql://[::1]:5432/a%2Fb"),
            expected(&[("database", "a/b"), ("host", "::1"), ("port", "5432")])
        );
        assert_eq!(
            read("postgres:///x?host=%2Frun%2Fpg"),
            expected(&[("database", "x"), ("host", "/run/pg")])
        );
        assert_eq!(
            read(r" host = localhost password='a b\'c\\' user=  dbname=x\ y connect_timeout=10"),
            expected(&[
                ("connect_timeout", "10"),
                ("database", r"x y"),
                ("host", "localhost"),
                ("password", r"a b'c\"),
                ("user", "dbname=x y"),
            ])
            .into_iter()
            // `user=` takes the next word, as libpq reads it.
            .filter(|(name, _)| name != "database")
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn errors_do_not_repeat_the_text() {
        for text in ["secret", "password='secret", r"password=secret\", "=secret"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("failed to parse connection string: ") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
