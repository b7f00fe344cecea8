//! The bridge, and a pair of interfaces with an address for each container: by ip(8) and nsenter(1), whose words are all ours.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Why a network could not be made.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
}

/// The bridge, and which addresses of its /24 are taken.
#[derive(Debug)]
pub(crate) struct Bridge {
    name: String,
    address: Ipv4Addr,
    taken: Mutex<BTreeSet<u8>>,
}

/// A container's network. Dropped, the pair is gone and the address is free.
#[derive(Debug)]
pub(crate) struct Attached<'b> {
    bridge: &'b Bridge,
    host: u8,
}

/// Something that can be the name of an interface, and is no option.
pub(crate) fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..16).contains(&text.len()) && text.bytes().all(good) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

impl Bridge {
    /// Make it; one that is there is gone on with.
    pub(crate) fn make(name: &str, address: Ipv4Addr) -> Result<Self, String> {
        if ip(&["link", "show", "dev", name]).is_err() {
            ip(&["link", "add", name, "type", "bridge"])?;
        }
        ip(&["addr", "replace", &format!("{address}/24"), "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        Ok(Self { name: name.to_owned(), address, taken: Mutex::default() })
    }

    pub(crate) fn gateway(&self) -> String {
        self.address.to_string()
    }

    fn address_of(&self, host: u8) -> String {
        let [a, b, c, _] = self.address.octets();
        format!("{}/24", Ipv4Addr::new(a, b, c, host))
    }

    /// The lowest that is free.
    fn take(&self) -> Option<u8> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.address.octets()[3];
        let free = (1..=254).find(|host| *host != own && !taken.contains(host))?;
        taken.insert(free);
        Some(free)
    }

    /// Whose it is has been seen.
    pub(crate) fn attach(&self, namespace: &OwnedFd) -> Result<Attached<'_>, Failed> {
        let none = || Failed { kind: "exhausted", what: format!("no address of {}/24 is left", self.address) };
        // From here on it is taken back, whatever fails.
        let attached = Attached { bridge: self, host: self.take().ok_or_else(none)? };
        let made = attached.make(namespace);
        made.map_err(|what| Failed { kind: "system", what })?;
        Ok(attached)
    }
}

impl Attached<'_> {
    pub(crate) fn address(&self) -> String {
        self.bridge.address_of(self.host)
    }

    /// Our end of the pair.
    fn outside(&self) -> String {
        format!("{}c{}", self.bridge.name.get(..11).unwrap_or(&self.bridge.name), self.host)
    }

    fn make(&self, namespace: &OwnedFd) -> Result<(), String> {
        let (outside, own) = (self.outside(), std::process::id().to_string());
        // A pair of a plugin of before us, whose container lives.
        let _ = ip(&["link", "del", &outside]);
        let inside = |words: &[&str]| ip_inside(namespace, words);
        inside(&["link", "add", "eth0", "type", "veth", "peer", "name", &outside, "netns", &own])?;
        ip(&["link", "set", &outside, "master", &self.bridge.name, "up"])?;
        inside(&["addr", "add", &self.address(), "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", &self.bridge.gateway()])
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // The other end goes with it; both have gone with the namespace where that is gone.
        let _ = ip(&["link", "del", &self.outside()]);
        self.bridge.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, not part of the library: it has no keeper")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

fn ip(words: &[&str]) -> Result<(), String> {
    run(command("ip").args(words))
}

/// In the network behind this descriptor, which is the program's standard input.
fn ip_inside(namespace: &OwnedFd, words: &[&str]) -> Result<(), String> {
    let namespace = namespace.try_clone().map_err(|error| error.to_string())?;
    let mut nsenter = command("nsenter");
    run(nsenter.args(["--net=/proc/self/fd/0", "--", "ip"]).args(words).stdin(Stdio::from(namespace)))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said: String = String::from_utf8_lossy(&output.stderr).chars().filter(|c| !c.is_control()).collect();
            Err(format!("{}: {}", command.get_program().display(), said.chars().take(200).collect::<String>()))
        }
        Err(error) => Err(format!("{}: {error}", command.get_program().display())),
    }
}
