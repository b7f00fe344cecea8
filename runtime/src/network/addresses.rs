//! The addresses of a network namespace, asked of the kernel over a socket that was made in it: rtnetlink(7), by hand, for
//! one question. Reading what comes is pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use crate::error::Error;

/// RTM_NEWADDR, RTM_GETADDR, NLMSG_ERROR, NLMSG_DONE.
const NEW: u16 = 20;
const GET: u16 = 22;
const FAILED: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x301;
/// RT_SCOPE_HOST and RT_SCOPE_LINK: addresses that mean nothing outside.
const HOST: u8 = 254;
const LINK: u8 = 253;
/// IFA_ADDRESS, IFA_LOCAL.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// The family and type of that socket: AF_NETLINK, SOCK_RAW; its protocol 0 is NETLINK_ROUTE.
pub(super) const SOCKET: (u32, u32) = (16, 3);

/// Each global address, as `address/prefix`. The kernel answers within the call: nothing here waits.
pub(super) fn ask(socket: &OwnedFd) -> Result<Vec<String>, Error> {
    let failed = |error: rustix::io::Errno| Error::system("cannot ask for the addresses of a network", error);
    // struct nlmsghdr: length, type, flags, sequence, port; struct ifaddrmsg: family (any), prefix, flags, scope, index.
    let mut request = [0u8; 24];
    request[0..4].copy_from_slice(&24u32.to_ne_bytes());
    request[4..6].copy_from_slice(&GET.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    rustix::net::send(socket, &request, rustix::net::SendFlags::empty()).map_err(failed)?;
    let mut found = Vec::new();
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let (len, _) = rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT).map_err(failed)?;
        if !read(buffer.get(..len).unwrap_or_default(), &mut found) {
            return Ok(found);
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?)).ok()
}

/// One datagram. `false`: it was the last, or is none.
fn read(mut datagram: &[u8], found: &mut Vec<String>) -> bool {
    while let (Some(len), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let Some(message) = datagram.get(16..len) else { return false };
        match kind {
            NEW => found.extend(address(message)),
            FAILED | DONE => return false,
            _ => {}
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

/// A `struct ifaddrmsg` and its attributes.
fn address(message: &[u8]) -> Option<String> {
    let [_family, prefix, _flags, scope, ..] = *message else { return None };
    if matches!(scope, HOST | LINK) {
        return None;
    }
    let mut found = None;
    let mut attributes = message.get(8..)?;
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let len = usize::from(len);
        let Some(value) = attributes.get(4..len) else { break };
        // Of a link between two the local one is the own one; others have one address alone.
        if kind == LOCAL || (kind == ADDRESS && found.is_none()) {
            found = ip(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found.map(|address| format!("{address}/{prefix}"))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|six| Ipv6Addr::from(six).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn global_addresses_are_read() {
        let one =
            |scope: u8, attributes: Vec<u8>| message(NEW, &[vec![2, 24, 0, scope, 1, 0, 0, 0], attributes].concat());
        let peer =
            [attribute(ADDRESS, &[10, 0, 0, 9]), attribute(3, b"eth0\0"), attribute(LOCAL, &[10, 0, 0, 1])].concat();
        let datagram =
            [one(0, peer), one(HOST, attribute(ADDRESS, &[127, 0, 0, 1])), one(0, attribute(ADDRESS, &[0; 16]))]
                .concat();
        let mut found = Vec::new();
        assert!(read(&datagram, &mut found));
        assert_eq!(found, ["10.0.0.1/24", "::/24"]);
        assert!(!read(&message(DONE, &[0; 4]), &mut found) && !read(&message(FAILED, &[0; 4]), &mut found));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut found = Vec::new();
            let _ = read(&bytes, &mut found);
            let _ = read(&message(NEW, &bytes), &mut found);
        }
    }
}
