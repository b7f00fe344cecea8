//! The resolv.conf of a container whose questions pasta takes to the host's own resolver, wherever that is: one that
//! listens on the host's loopback could not be reached from inside by its address. Pure but for [`host`].

use std::net::IpAddr;

/// Where a container asks: what is sent to its port 53 goes to the host's first resolver of the same family. The first is
/// link-local, the second of a random prefix for local use (RFC 4193): neither is anybody's.
pub(super) const RESOLVERS: [&str; 2] = ["169.254.1.1", "fdb5:7f5c:3a1e::53"];

/// The host's.
pub(super) fn host() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// Which of [`RESOLVERS`] has somebody behind it.
pub(super) fn families(host: &str) -> [bool; 2] {
    let mut families = [false; 2];
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(("nameserver", address)) = words.next().zip(words.next()) else { continue };
        // A scope stands behind %.
        let address = address.split('%').next().unwrap_or_default();
        match address.parse() {
            Ok(IpAddr::V4(_)) => families[0] = true,
            Ok(IpAddr::V6(_)) => families[1] = true,
            Err(_) => {}
        }
    }
    families
}

/// The container's: its resolvers are ours, what to search and how to ask is the host's.
pub(super) fn inside(host: &str) -> String {
    let servers = RESOLVERS.iter().zip(families(host)).filter(|(_, there)| *there);
    let mut text: String = servers.map(|(address, _)| format!("nameserver {address}\n")).collect();
    let kept = |line: &&str| {
        matches!(line.split_ascii_whitespace().next(), Some("search" | "domain" | "options")) && !line.contains('\0')
    };
    for line in host.lines().filter(kept) {
        text.push_str(line.trim());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolvers_are_replaced_and_the_rest_is_kept() {
        let host =
            "# made by\nnameserver 127.0.0.53\nnameserver 10.0.0.1\noptions edns0 trust-ad\nsearch a.example b\n";
        assert_eq!(inside(host), "nameserver 169.254.1.1\noptions edns0 trust-ad\nsearch a.example b\n");
        assert_eq!(inside("nameserver fe80::1%eth0\n"), "nameserver fdb5:7f5c:3a1e::53\n");
        assert_eq!(families("nameserver ::1\nnameserver 1.1.1.1"), [true, true]);
        for nothing in ["", "nameserver\n", "nameserver x\n", "#nameserver 1.1.1.1\n"] {
            assert_eq!(inside(nothing), "", "{nothing}");
        }
    }
}
