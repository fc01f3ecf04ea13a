//! What browsers may be made to do: a page of some web site could ask in the name of its reader. Pure.
//!
//! Who asks is known by address alone, and a browser in the network has an allowed one. So a WebSocket is not given to a page
//! of another server, and nothing at all to a name that is not this host's: a name that another person owns may lead here, and
//! the page under it would then count as a page of this host.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// Whether the request means this host: by an address, as `localhost`, or by one of its `names`, with `.local` or without. What
/// names no host is no browser.
pub fn is_for_us(headers: &HeaderMap, uri: &Uri, names: &[String]) -> bool {
    let mut given = headers.get_all(header::HOST).iter().peekable();
    if given.peek().is_none() {
        return uri.authority().is_none_or(|authority| is_ours(authority, names));
    }
    given.all(|host| {
        let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| is_ours(&authority, names))
    })
}

fn is_ours(authority: &Authority, names: &[String]) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let host = host.strip_suffix(".local").unwrap_or(&host);
    let is_name = |name: &String| !name.is_empty() && name.eq_ignore_ascii_case(host);
    host == "localhost" || names.iter().any(is_name)
}

/// Whether a page asks that another server gave the browser, or one that says of itself that it is from nowhere.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    origins.any(|origin| {
        let origin = origin.as_bytes();
        let page = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        !origin.is_empty() && (page.is_none() || page != host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(header::HeaderName, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_name_of_another_host_is_not_ours() {
        let names = ["Stage", "pc-7", ""].map(str::to_owned);
        let is_for_us = |host: &str| is_for_us(&headers(&[(header::HOST, host)]), &Uri::from_static("/"), &names);
        for host in [
            "127.0.0.1:9001",
            "192.168.1.5",
            "[::1]:9001",
            "[fe80::1]",
            "localhost:9001",
            "stage.local:9001",
            "STAGE",
            "pc-7.local.",
        ] {
            assert!(is_for_us(host), "{host}");
        }
        for host in ["evil.example:9001", "stage.evil.example", "127.0.0.1.evil.example", "local", ".local", ""] {
            assert!(!is_for_us(host), "{host}");
        }
        let nothing = super::is_for_us(&HeaderMap::new(), &Uri::from_static("/"), &[]);
        assert!(nothing, "a program without a host is no browser");
        assert!(!super::is_for_us(&HeaderMap::new(), &Uri::from_static("http://evil.example/"), &[]));
    }

    #[test]
    fn a_page_of_another_server_is_foreign() {
        let is_foreign =
            |origin: &str| is_foreign(&headers(&[(header::HOST, "10.0.0.2:9001"), (header::ORIGIN, origin)]));
        for origin in
            ["null", "http://example.org", "file://", "https://10.0.0.2", "http://10.0.0.2:80", "10.0.0.2:9001"]
        {
            assert!(is_foreign(origin), "{origin}");
        }
        assert!(!is_foreign("http://10.0.0.2:9001") && !is_foreign(""));
        assert!(!super::is_foreign(&HeaderMap::new()), "a program has no origin");
    }
}
