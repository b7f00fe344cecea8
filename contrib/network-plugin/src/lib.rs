//! A sample of an administrator's network plugin: the one program that needs privileges so that ordinary users' containers
//! have addresses of a bridge. `docs/network-plugin.md` is the protocol, and what is promised to whom.
//!
//! It trusts nobody who connects: who that is the kernel says (`peer.rs`), the namespace has to be his own, and nothing that he sends
//! becomes a word of a command. One thread for each connection; what was made for it is removed when that ends (`network.rs`),
//! whoever ends it.
#![forbid(unsafe_code)]

mod network;
mod peer;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::network::PluginMessage as Message;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use network::{Attached, Bridge};
use peer::{Asked, Peer};

/// Most connections at a time, each a thread. An address is for each of less than that.
const CONNECTIONS: usize = 512;
/// So long somebody may be connected without asking for anything.
const SILENCE: Duration = Duration::from_secs(10);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens.
    pub socket: PathBuf,
    /// Who may ask.
    pub allow: Vec<u32>,
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's address; containers get the others of its /24.
    pub address: Ipv4Addr,
}

impl Options {
    /// `--socket PATH --allow UID [--allow UID]... [--bridge NAME] [--address A.B.C.1]`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let usage = "--socket PATH --allow UID [--allow UID]... [--bridge NAME] [--address A.B.C.1]";
        let (mut socket, mut allow) = (None, Vec::new());
        let (mut bridge, mut address) = ("orangery0".to_owned(), Ipv4Addr::new(10, 88, 0, 1));
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value; {usage}"))?;
            let no = || format!("{word} {value} makes no sense; {usage}");
            match word.as_str() {
                "--socket" => socket = Some(PathBuf::from(value)),
                "--allow" => allow.push(value.parse().map_err(|_| no())?),
                "--bridge" if network::is_name(value) => bridge.clone_from(value),
                "--address" => address = value.parse().ok().filter(Ipv4Addr::is_private).ok_or_else(no)?,
                _ => return Err(no()),
            }
        }
        let socket = socket.ok_or_else(|| format!("where to listen is missing; {usage}"))?;
        if allow.is_empty() {
            return Err(format!("who may ask is missing; {usage}"));
        }
        Ok(Self { socket, allow, bridge, address })
    }
}

/// Listen until killed; says a line on standard output when it does, and one for each network that comes and goes.
///
/// # Errors
/// It cannot listen, or make its bridge.
pub fn serve(options: &Options) -> Result<(), String> {
    let bridge = Arc::new(Bridge::make(&options.bridge, options.address)?);
    let listener =
        listen(options).map_err(|error| format!("cannot listen at {}: {error}", options.socket.display()))?;
    println!("listening at {}", options.socket.display());
    let present = Arc::new(());
    loop {
        let connection = match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => return Err(format!("cannot accept: {error}")),
        };
        if Arc::strong_count(&present) > CONNECTIONS {
            answer(&connection, &fatal("exhausted", format!("{CONNECTIONS} are connected")));
            continue;
        }
        let (bridge, allow, present) = (Arc::clone(&bridge), options.allow.clone(), Arc::clone(&present));
        let begun = std::thread::Builder::new().spawn(move || {
            attend(&connection, &bridge, &allow);
            drop(present);
        });
        if let Err(error) = begun {
            eprintln!("orangery-network-plugin: no thread for a connection: {error}");
        }
    }
}

fn listen(options: &Options) -> std::io::Result<OwnedFd> {
    // One of before that nobody listens at any more; anything but a socket stays, and the bind says so.
    let is_socket = std::fs::symlink_metadata(&options.socket).is_ok_and(|meta| {
        use std::os::unix::fs::FileTypeExt as _;
        meta.file_type().is_socket()
    });
    if is_socket {
        std::fs::remove_file(&options.socket)?;
    }
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(&options.socket)?)?;
    // Who may ask is not up to the file's mode but to who he is.
    std::fs::set_permissions(&options.socket, std::fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&listener, 64)?;
    Ok(listener)
}

/// One connection, to its end.
fn attend(connection: &OwnedFd, bridge: &Bridge, allow: &[u32]) {
    let mut attached: Option<Attached<'_>> = None;
    let peer = match Peer::of(connection, allow) {
        Ok(peer) => peer,
        Err(refused) => {
            answer(connection, &refused);
            // What it asks is taken first: who closes over an unread message has ECONNRESET told instead of the answer.
            let _ = sockopt::set_socket_timeout(connection, sockopt::Timeout::Recv, Some(SILENCE));
            let _ = Asked::receive(connection, RecvFlags::CMSG_CLOEXEC);
            return;
        }
    };
    loop {
        // One that has a network may be silent for as long as it likes.
        let silence = attached.is_none().then_some(SILENCE);
        let _ = sockopt::set_socket_timeout(connection, sockopt::Timeout::Recv, silence);
        let asked = match Asked::receive(connection, RecvFlags::CMSG_CLOEXEC) {
            Ok(Some(asked)) => asked,
            Ok(None) | Err(_) => break,
        };
        let said = asked.and_then(|asked| carry_out(&asked, &peer, bridge, &mut attached));
        // Who does not speak the protocol, or asks for what is not his, is not heard a second time.
        let end = said.as_ref().err().is_some_and(|refused| refused.entries.contains_key("fatal"));
        answer(connection, &said.unwrap_or_else(|refused| refused));
        if end {
            break;
        }
    }
    if let Some(made) = attached {
        let address = made.address();
        drop(made);
        println!("gone {address}");
    }
}

/// The answer, or the refusal.
fn carry_out<'b>(
    asked: &Asked,
    peer: &Peer,
    bridge: &'b Bridge,
    attached: &mut Option<Attached<'b>>,
) -> Result<Message, Message> {
    match (asked.message.verb.as_str(), &asked.descriptors[..], &attached) {
        ("attach", [namespace], None) => {
            peer.owns(namespace)?;
            if let Some(unknown) = asked.message.entries.keys().find(|key| *key != "container") {
                return Err(no("unsupported", "this plugin has no such property").with("field", unknown));
            }
            let made = bridge.attach(namespace).map_err(|why| no(why.kind, why.what))?;
            println!("attached {} for user {}", made.address(), peer.uid);
            let told = Message::new("ok").with("address", made.address()).with("gateway", bridge.gateway());
            *attached = Some(made);
            Ok(told)
        }
        ("attach", _, Some(_)) => Err(no("state", "one connection is one network")),
        ("attach", _, None) => Err(fatal("invalid", "attach comes with one descriptor, the network namespace")),
        ("change", [], Some(_)) => Err(no("unsupported", "nothing of such a network can be changed")),
        ("detach", [], Some(made)) => {
            let address = made.address();
            *attached = None;
            println!("detached {address}");
            Ok(Message::new("ok"))
        }
        ("change" | "detach", [], None) => Err(no("state", "nothing is attached")),
        _ => Err(fatal("invalid", "attach, change and detach can be asked for")),
    }
}

/// A refusal.
fn no(kind: &str, what: impl Into<String>) -> Message {
    Message::new("no").with("kind", kind).with("what", what)
}

/// A refusal that ends the connection.
fn fatal(kind: &str, what: impl Into<String>) -> Message {
    no(kind, what).with("fatal", "yes")
}

fn answer(connection: &OwnedFd, message: &Message) {
    if let Ok(bytes) = message.encode() {
        // Who does not read does not hold us up: one answer to one question always has room.
        let _ = rustix::net::send(connection, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused_in_words() {
        let parse = |text: &str| Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let good = parse("--socket /run/n.sock --allow 1000 --allow 0 --bridge br1 --address 10.9.0.1").unwrap();
        assert_eq!((good.allow.as_slice(), good.bridge.as_str()), (&[1000, 0][..], "br1"));
        for (text, part) in [
            ("--socket /a", "who may ask"),
            ("--allow 1000", "where to listen"),
            ("--socket", "needs a value"),
            ("--socket /a --allow x", "makes no sense"),
            ("--socket /a --allow 1 --address 8.8.8.8", "makes no sense"),
            ("--socket /a --allow 1 --bridge a/b", "makes no sense"),
            ("--else x", "makes no sense"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
