//! URLs that strangers write to reach what is not theirs (F2), each with the reason it is refused for. No name is
//! resolved and no connection made: what is refused here is refused by what it says.

use outrigger_platform_fetch::{AllowedHosts, Refusal, Target};

fn refusal(url: &str) -> Refusal {
    match Target::parse(url, &AllowedHosts::default()) {
        Ok(target) => panic!("{url} passes as {}", target.url()),
        Err(refusal) => refusal,
    }
}

/// Spellings of addresses that are inner ones.
const INNER: &[&str] = &[
    // The plain ones, one of each network.
    "http://127.0.0.1/",
    "http://127.1.2.3:8080/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.254/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "https://127.0.0.1/",
    // Short forms.
    "http://0/",
    "http://127.1/",
    "http://127.0.1/",
    "http://10.1/",
    // One number.
    "http://2130706433/",
    "http://2852039166/",
    "http://3232235777/",
    // Octal.
    "http://0177.0.0.1/",
    "http://0177.1/",
    "http://017700000001/",
    "http://0251.0376.0251.0376/",
    "http://00000177.0.0.01/",
    // Hexadecimal.
    "http://0x7f.0.0.1/",
    "http://0x7f000001/",
    "http://0xa9fea9fe/",
    "http://0X7F.1/",
    "http://0xc0.0xa8.0x1.0x1/",
    // Mixed.
    "http://0x7f.0.1/",
    "http://127.0x0.00.1/",
    // A dot at the end.
    "http://127.0.0.1./",
    // Percent escapes and wide or circled digits, which browsers read as the plain ones.
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    // IPv6.
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:80/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[ff02::1]/",
    // IPv4 in IPv6.
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[0:0:0:0:0:ffff:10.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    // Slashes that are too many or too few make no other host.
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:///127.0.0.1/",
    // Behind a fragment or a query nothing is a host.
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1?@example.com/",
];

#[test]
fn no_spelling_of_an_inner_address_passes() {
    assert!(INNER.len() >= 60, "{}", INNER.len());
    for url in INNER {
        assert!(
            matches!(refusal(url), Refusal::Inner { .. }),
            "{url}: {:?}",
            refusal(url)
        );
    }
}

#[test]
fn only_http_and_https_are_fetched() {
    for url in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/_GET",
        "dict://example.com/",
        "ldap://example.com/",
        "data:text/plain,hello",
        "javascript:alert(1)",
        "jar:http://example.com/a.jar!/",
        "unix:///var/run/docker.sock",
        "ws://example.com/",
        "blob:http://example.com/1",
    ] {
        assert!(matches!(refusal(url), Refusal::Scheme(_)), "{url}");
    }
}

#[test]
fn user_names_are_refused() {
    for url in [
        "http://example.com@127.0.0.1/",
        "http://user:password@example.com/",
        "http://example.com%20@127.0.0.1/",
        "http://127.0.0.1:80@example.com/",
        "http://:password@example.com/",
        "http://a@b@127.0.0.1/",
    ] {
        assert_eq!(refusal(url), Refusal::UserInfo, "{url}");
    }
}

#[test]
fn what_is_no_url_is_refused() {
    for url in [
        "",
        "example.com",
        "//example.com/",
        "http://",
        "http://exa mple.com/",
        "http://example.com\\@127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://example.com\r\nHost: inner/",
        "http://exam\tple.com/",
        "\u{0}http://example.com/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://256.256.256.256/",
        "http://1.2.3.4.5/",
        "http://0x7f.0.0.0x100/",
        "http://example.com:99999/",
        "http://example.com:-1/",
        "http://exa%00mple.com/",
        "http://exa%2fmple.com/",
    ] {
        assert!(
            matches!(refusal(url), Refusal::Malformed(_)),
            "{url}: {:?}",
            refusal(url)
        );
    }
    assert_eq!(refusal("http://example.com:0/"), Refusal::Host);
}

#[test]
fn public_hosts_pass_as_they_are_spelled() {
    for (url, host, port) in [
        ("http://example.com/worker.py", "example.com", 80),
        ("https://EXAMPLE.com./a?b=c#d", "example.com", 443),
        ("https://example.com:8443/", "example.com", 8443),
        ("http://8.8.8.8/", "8.8.8.8", 80),
        ("http://0x08080808/", "8.8.8.8", 80),
        ("http://[2606:4700:4700::1111]/", "2606:4700:4700::1111", 80),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
    ] {
        let target =
            Target::parse(url, &AllowedHosts::default()).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!((target.host(), target.port()), (host, port), "{url}");
        assert_eq!(target.url().fragment(), None, "{url}");
    }
}

#[test]
fn an_exclusive_list_takes_no_other_host() {
    let allowed = AllowedHosts::parse("code.internal").exclusive();
    let inner = Target::parse("https://code.internal/a", &allowed).unwrap();
    for refused in [
        Target::parse("https://example.com/", &allowed),
        inner.redirected("https://example.com/", &allowed),
    ] {
        assert!(matches!(refused, Err(Refusal::NotListed(_))), "{refused:?}");
    }
    // Nothing on the list is no list (Z16).
    let none = AllowedHosts::parse(" , ").exclusive();
    assert!(Target::parse("https://example.com/", &none).is_ok());
    assert!(Target::parse("https://127.0.0.1/", &none).is_err());
}

#[test]
fn allowed_hosts_pass_wherever_they_are() {
    let allowed = AllowedHosts::parse("code.internal, 10.0.0.7:8080,LOCALHOST.");
    for url in [
        "http://code.internal/worker.py",
        "http://10.0.0.7:8080/",
        "http://0x0a000007:8080/",
        "http://localhost:3000/",
    ] {
        assert!(Target::parse(url, &allowed).is_ok(), "{url}");
    }
    for url in ["http://10.0.0.7/", "http://10.0.0.8:8080/", "http://127.0.0.1/"] {
        assert!(
            matches!(Target::parse(url, &allowed), Err(Refusal::Inner { .. })),
            "{url}"
        );
    }
}

#[test]
fn a_redirect_is_a_url_like_any_other() {
    let allowed = AllowedHosts::default();
    let from = Target::parse("https://example.com/a/b", &allowed).unwrap();
    for (location, refused) in [
        ("https://127.0.0.1/", true),
        ("//169.254.169.254/", true),
        ("http://example.com/", true),
        ("file:///etc/passwd", true),
        ("https://user@example.com/", true),
        ("/\\127.0.0.1/", true),
        ("../c", false),
        ("https://example.org/", false),
    ] {
        assert_eq!(
            from.redirected(location, &allowed).is_err(),
            refused,
            "{location}"
        );
    }
}
