//! Ports of the host that lead into a container.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A protocol with ports.
///
/// ```
/// use orangery_runtime::network::Protocol;
/// assert_eq!(Protocol::default().to_string(), "tcp");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to one of the container, or several in a row. As text `[ADDR:]HOST:CONTAINER[/tcp|/udp]`, each
/// a port or `FIRST-LAST`, an IPv6 address in brackets; by serde it is that text.
///
/// ```
/// use orangery_runtime::network::Publish;
/// let web: Publish = "127.0.0.1:8080:80".parse()?;
/// assert_eq!((web.host, web.container, web.count), (8080, 80, 1));
/// assert_eq!("[::1]:5300-5301:53-54/udp".parse::<Publish>()?.to_string(), "[::1]:5300-5301:53-54/udp");
/// assert!("8080".parse::<Publish>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// The address of the host that is listened on; `None`: all of them.
    pub address: Option<IpAddr>,
    /// The (first) port of the host.
    pub host: u16,
    /// The (first) port of the container.
    pub container: u16,
    /// How many ports in a row.
    pub count: u16,
    /// Of what.
    pub protocol: Protocol,
}

impl Publish {
    /// One TCP port, on all addresses.
    #[must_use]
    pub fn tcp(host: u16, container: u16) -> Self {
        Self { address: None, host, container, count: 1, protocol: Protocol::Tcp }
    }

    /// One UDP port, on all addresses.
    #[must_use]
    pub fn udp(host: u16, container: u16) -> Self {
        Self { protocol: Protocol::Udp, ..Self::tcp(host, container) }
    }

    /// On this address of the host alone.
    #[must_use]
    pub fn on(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Each pair of ports.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let (host, container) = (self.host, self.container);
        (0..self.count).map(move |n| (host.saturating_add(n), container.saturating_add(n)))
    }

    /// Why it cannot be; `None`: it can.
    pub(crate) fn wrong(&self) -> Option<String> {
        let last = |first: u16| u32::from(first) + u32::from(self.count).saturating_sub(1);
        if self.host == 0 || self.container == 0 || self.count == 0 {
            return Some("a port is 1 to 65535".into());
        }
        if last(self.host) > u16::MAX.into() || last(self.container) > u16::MAX.into() {
            return Some(format!(
                "{} ports from {} on are more than there are",
                self.count,
                self.host.max(self.container)
            ));
        }
        let zoned = |address: Ipv6Addr| address.is_unicast_link_local();
        match self.address {
            Some(IpAddr::V6(address)) if zoned(address) => {
                Some(format!("{address} is an address of one link alone, which cannot be named here"))
            }
            _ => None,
        }
    }

    /// Some port of the host is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let everywhere = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
        let same = self.address == other.address || everywhere(self.address) || everywhere(other.address);
        let end = |one: &Self| u32::from(one.host) + u32::from(one.count);
        let meet = u32::from(self.host) < end(other) && u32::from(other.host) < end(self);
        self.protocol == other.protocol && same && meet
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        let range = |first: u16| match self.count {
            0 | 1 => first.to_string(),
            count => format!("{first}-{}", first.saturating_add(count - 1)),
        };
        write!(f, "{}:{}/{}", range(self.host), range(self.container), self.protocol)
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

impl TryFrom<String> for Publish {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(format!("{other:?} is no protocol with ports: tcp and udp are")),
        };
        let form = || format!("{text:?} is not of the form [ADDR:]HOST:CONTAINER[/udp], such as 127.0.0.1:8080:80");
        let (rest, container) = ports.rsplit_once(':').ok_or_else(form)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => (Some(self::address(address).ok_or_else(form)?), host),
        };
        let (host, count) = range(host).ok_or_else(form)?;
        let (container, inside) = range(container).ok_or_else(form)?;
        if count != inside {
            return Err(format!("{text:?} leads {count} ports to {inside}"));
        }
        let publish = Self { address, host, container, count, protocol };
        publish.wrong().map_or(Ok(publish), Err)
    }
}

/// An IPv6 address stands in brackets, which are what keeps its colons apart.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// The first port and how many there are.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.split_once('-') {
        None => Some((port(text)?, 1)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            Some((first, last.checked_sub(first)?.checked_add(1)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, printed) in [
            ("80:8080", "80:8080/tcp"),
            ("127.0.0.1:80:8080/tcp", "127.0.0.1:80:8080/tcp"),
            ("[::1]:53:53/udp", "[::1]:53:53/udp"),
            ("0.0.0.0:1-3:11-13", "0.0.0.0:1-3:11-13/tcp"),
            ("65535:65535", "65535:65535/tcp"),
        ] {
            let publish: Publish = text.parse().unwrap();
            assert_eq!(publish.to_string(), printed);
            assert_eq!(serde_json::from_str::<Publish>(&serde_json::to_string(&publish).unwrap()).unwrap(), publish);
        }
        assert_eq!(Publish::tcp(80, 81).on([127, 0, 0, 1]).to_string(), "127.0.0.1:80:81/tcp");
        assert_eq!(Publish::udp(80, 81).pairs().collect::<Vec<_>>(), [(80, 81)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (text, part) in [
            ("", "form"),
            ("80", "form"),
            ("80:", "form"),
            (":80", "form"),
            ("+80:80", "form"),
            ("80:80:80", "form"),
            ("::1:80:80", "form"),
            ("[127.0.0.1]:80:80", "form"),
            ("example.org:80:80", "form"),
            ("5-4:80", "form"),
            ("0-65535:1-2", "form"),
            ("1-2:80", "2 ports to 1"),
            ("0:80", "1 to 65535"),
            ("80:70000", "form"),
            ("80:80/sctp", "sctp"),
            ("[fe80::1]:80:80", "one link"),
        ] {
            let why = text.parse::<Publish>().unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        let many = Publish { count: 2, ..Publish::tcp(65535, 80) };
        assert!(many.wrong().unwrap().contains("more than there are"));
    }

    #[test]
    fn the_same_port_twice_is_seen() {
        let p = |text: &str| text.parse::<Publish>().unwrap();
        assert!(p("80:1").overlaps(&p("80:2")));
        assert!(p("127.0.0.1:80:1").overlaps(&p("80:2")));
        assert!(p("[::]:70-80:1-11").overlaps(&p("127.0.0.1:80:2")));
        assert!(!p("127.0.0.1:80:1").overlaps(&p("127.0.0.2:80:2")));
        assert!(!p("80:1").overlaps(&p("80:2/udp")) && !p("80:1").overlaps(&p("81:1")));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9:/\\[\\].a-f-]{0,24}") {
            if let Ok(publish) = text.parse::<Publish>() {
                prop_assert_eq!(publish.to_string().parse::<Publish>(), Ok(publish));
            }
        }
    }
}
