//! A network by pasta, as root and as an ordinary user.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use orangery_runtime::network::{Pasta, Publish};
use orangery_runtime::spec::{Access, Network, Rootfs, Stdio, UserNamespace};
use orangery_runtime::{Container, ContainerSpec, ErrorKind};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::net::{Net, OTHER};
use orangery_tests::{Host, Scene, stock, wait};

const TCP: u32 = libc::SOCK_STREAM.cast_unsigned();
const UDP: u32 = libc::SOCK_DGRAM.cast_unsigned();
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn wired(host: &Host, id: &str, pasta: Pasta) -> ContainerSpec {
    let mut spec = host.spec(id);
    spec.pasta = Some(pasta);
    spec
}

/// A port of the host that nobody has.
fn free(kind: u32) -> u16 {
    let bound = match kind {
        UDP => UdpSocket::bind((LOCALHOST, 0)).and_then(|socket| socket.local_addr()),
        _ => TcpListener::bind((LOCALHOST, 0)).and_then(|socket| socket.local_addr()),
    };
    bound.expect("bound").port()
}

/// A socket of the container's network.
async fn inside(container: &dyn Container, kind: u32) -> OwnedFd {
    wait::soon("a socket", container.socket(2, kind)).await.expect("a socket of its network")
}

async fn listener(container: &dyn Container, port: u16) -> TcpListener {
    let socket = inside(container, TCP).await;
    rustix::net::bind(&socket, &SocketAddr::from(([0, 0, 0, 0], port))).expect("bound");
    rustix::net::listen(&socket, 4).expect("listening");
    TcpListener::from(socket)
}

async fn datagrams(container: &dyn Container, port: u16) -> UdpSocket {
    let socket = inside(container, UDP).await;
    rustix::net::bind(&socket, &SocketAddr::from(([0, 0, 0, 0], port))).expect("bound");
    patient(UdpSocket::from(socket))
}

fn patient(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(wait::PATIENCE)).expect("a time limit");
    socket
}

/// What is said at one end is heard at the other, both ways.
fn talk(one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        stream.set_read_timeout(Some(wait::PATIENCE)).expect("a time limit");
    }
    say(b"ping", one, other);
    say(b"pong", other, one);
}

fn say(words: &[u8; 4], mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(words).expect("said");
    let mut heard = [0; 4];
    to.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, words);
}

/// A client at this address of the host asks at its port, and what is inside answers.
fn ask_and_answer(inside: &UdpSocket, at: Ipv4Addr, port: u16) {
    let client = patient(UdpSocket::bind((at, 0)).expect("bound"));
    client.send_to(b"question", (at, port)).expect("sent");
    let mut heard = [0; 16];
    let (len, from) = inside.recv_from(&mut heard).expect("it comes");
    assert_eq!(&heard[..len], b"question");
    inside.send_to(b"answer", from).expect("sent back");
    assert_eq!(client.recv(&mut heard).map(|len| heard[..len].to_vec()).expect("an answer"), b"answer");
}

/// pasta, which calls itself passt.avx2 where it can, and its guard, of this trial.
fn helpers() -> Vec<String> {
    let all = stock::descendants(std::process::id());
    let ours = |process: &stock::Process| is_pasta(process) || process.name == "orangery-net";
    all.into_iter().filter(|process| process.state != 'Z' && ours(process)).map(|process| process.to_string()).collect()
}

fn is_pasta(process: &stock::Process) -> bool {
    process.name.starts_with("pas")
}

fn pasta_itself() -> u32 {
    let all = stock::descendants(std::process::id());
    all.into_iter().find(is_pasta).expect("pasta runs").pid
}

pub(crate) fn ports_lead_into_it(scene: &Scene) {
    let net = Net::set(scene);
    if scene.root() {
        net.route();
    }
    scene.play(async |host| {
        let (tcp, udp, higher, container) = loop {
            let (tcp, udp) = (free(TCP), free(UDP));
            // A pasta of before 2024 loses what is answered to a client on the loopback from a lower port than was asked at.
            let higher = udp.saturating_add(1);
            let pasta = Pasta::new().publish(Publish::tcp(tcp, 80).on(LOCALHOST));
            let pasta = pasta.publish(Publish::udp(udp, higher).on(LOCALHOST));
            match host.create(wired(host, "net", pasta), probe(&["wait"])).await {
                // An ordinary user's network is everybody's, and somebody else was faster.
                Err(errors) if !scene.root() && errors.0[0].kind() == ErrorKind::Exists => {}
                made => break (tcp, udp, higher, made.expect("created")),
            }
        };
        assert_eq!(helpers().len(), 2, "{:?}", helpers());
        let server = listener(&*container, 80).await;
        let outer = TcpStream::connect((LOCALHOST, tcp)).expect("the host's port is open");
        let (inner, _) = server.accept().expect("somebody comes");
        talk(&outer, &inner);
        ask_and_answer(&datagrams(&*container, higher).await, LOCALHOST, udp);
        let told = container.network().expect("a network");
        assert_eq!((told["kind"].as_str(), told["state"].as_str()), ("pasta", "up"));
        assert_eq!(told["publish"], format!("127.0.0.1:{tcp}:80/tcp 127.0.0.1:{udp}:{higher}/udp"));
        assert!(told["addresses"].contains('/'), "{told:?}");
        wait::soon("delete", container.delete()).await.expect("deleted");
        assert_eq!(helpers(), Vec::<String>::new());
        // No pasta has the port any more.
        match TcpListener::bind((LOCALHOST, tcp)) {
            // An ordinary user's network is everybody's, and somebody else was faster.
            Err(error) if !scene.root() && error.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => drop(bound.expect("free again")),
        }
    });
}

pub(crate) fn it_reaches_what_the_host_reaches(scene: &Scene) {
    let mut net = Net::set(scene);
    net.route();
    std::fs::write(scene.dir().join("resolv.conf"), "nameserver 127.0.0.53\noptions edns0\n").expect("written");
    net.over(&scene.dir().join("resolv.conf"), "/etc/resolv.conf");
    // The host's resolver, on its loopback as is usual.
    let resolver = patient(UdpSocket::bind("127.0.0.53:53").expect("bound"));
    let elsewhere = TcpListener::bind((OTHER, 0)).expect("bound");
    let port = elsewhere.local_addr().expect("an address").port();
    let local = TcpListener::bind((LOCALHOST, 0)).expect("bound");
    let hidden = local.local_addr().expect("an address").port();
    scene.play(async |host| {
        let (other, udp): (Ipv4Addr, u16) = (OTHER.parse().expect("an address"), free(UDP));
        let published = Pasta::new().publish(Publish::udp(udp, 54).on(other));
        let connect = async |container: &dyn Container, to: SocketAddr| {
            let socket = inside(container, TCP).await;
            rustix::net::connect(&socket, &to).map(|()| TcpStream::from(socket))
        };
        let container =
            host.create(wired(host, "net", published), command(&["cat", "/etc/resolv.conf"])).await.expect("created");
        let inner = connect(&*container, SocketAddr::from((other, port))).await.expect("connected");
        let (outer, _) = elsewhere.accept().expect("somebody comes");
        talk(&inner, &outer);
        ask_and_answer(&datagrams(&*container, 54).await, other, udp);
        let asks = datagrams(&*container, 0).await;
        asks.send_to(b"who", "169.254.1.1:53").expect("sent");
        let mut heard = [0; 16];
        let (len, from) = resolver.recv_from(&mut heard).expect("it comes");
        assert!(&heard[..len] == b"who" && from.ip().is_loopback(), "{from}");
        resolver.send_to(b"he", from).expect("sent back");
        let (len, from) = asks.recv_from(&mut heard).expect("an answer");
        assert_eq!((&heard[..len], from.to_string().as_str()), (&b"he"[..], "169.254.1.1:53"));
        assert_eq!(container.network().expect("a network")["addresses"], "10.77.0.1/24");
        let seen = outcome(container.start().await.expect("started")).await;
        assert_eq!(seen.out, "nameserver 169.254.1.1\noptions edns0\n");
        // What listens on the host's loopback alone is not there.
        assert!(connect(&*container, SocketAddr::from(([127, 0, 0, 1], hidden))).await.is_err());
        container.delete().await.expect("deleted");
        // Unless that is asked for.
        let open = wired(host, "open", Pasta::new().host_loopback(true));
        let container = host.create(open, probe(&["wait"])).await.expect("created");
        let inner = connect(&*container, SocketAddr::from(([10, 77, 0, 2], hidden))).await.expect("connected");
        let (outer, _) = local.accept().expect("somebody comes");
        talk(&inner, &outer);
        container.delete().await.expect("deleted");
    });
}

/// /etc/resolv.conf in roots that are not made by us: missing, there, a link that stays inside.
pub(crate) fn each_root_has_its_resolvers(scene: &Scene) {
    let mut net = Net::set(scene);
    net.route();
    std::fs::write(scene.dir().join("resolv.conf"), "nameserver 127.0.0.53\n").expect("written");
    net.over(&scene.dir().join("resolv.conf"), "/etc/resolv.conf");
    let image = scene.image("image");
    let etc = image.join("etc");
    let _ = std::fs::create_dir(&etc);
    let place = etc.join("resolv.conf");
    let _ = std::fs::remove_file(&place);
    scene.play(async |host| {
        let said = async |access: Access| {
            let mut spec = ContainerSpec::default();
            spec.id = "root".into();
            spec.rootfs = Rootfs::Dir { path: image.clone(), access };
            spec.pasta = Some(Pasta::new());
            host.once(spec, command(&["/bin/busybox", "cat", "/etc/resolv.conf"])).await.out
        };
        let ours = "nameserver 169.254.1.1\n";
        assert_eq!(said(Access::ReadOnly).await, "", "it has no place for it");
        assert_eq!(said(Access::Overlay).await, ours);
        std::fs::write(&place, "nameserver 9.9.9.9\n").expect("written");
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            assert_eq!(said(access).await, ours, "{access:?}");
        }
        assert_eq!(std::fs::read_to_string(&place).expect("read"), "nameserver 9.9.9.9\n");
        std::fs::rename(&place, etc.join("real")).expect("renamed");
        std::os::unix::fs::symlink("/etc/real", &place).expect("a link");
        assert_eq!(said(Access::ReadOnly).await, ours);
    });
}

pub(crate) fn a_network_that_is_lost_is_told(scene: &Scene) {
    let net = Net::set(scene);
    if scene.root() {
        net.route();
    }
    scene.play(async |host| {
        let mut waits = probe(&["wait"]);
        waits.stdin = Stdio::Piped;
        let container = host.create(wired(host, "net", Pasta::new()), waits).await.expect("created");
        let started = container.start().await.expect("started");
        let lost = container.network_lost();
        wait::kill(wait::pidfd(pasta_itself()));
        let why = wait::soon("the loss", lost).await;
        assert!(why.contains("signal 9"), "{why}");
        assert_eq!(container.network().expect("a network")["state"], "down");
        assert!(!wait::readable(&started.pidfd, Duration::ZERO), "the container goes on");
        container.delete().await.expect("deleted");
        // The end of a container is no loss, whoever ends it.
        let container = host.create(wired(host, "two", Pasta::new()), probe(&["wait"])).await.expect("created");
        let (init, pasta) = (container.init_pid().cast_unsigned(), wait::pidfd(pasta_itself()));
        let mut lost = container.network_lost();
        wait::kill(wait::pidfd(init));
        wait::gone(&pasta, "pasta");
        let soon = tokio::time::timeout(Duration::from_millis(20), &mut lost).await;
        assert!(soon.is_err(), "{soon:?}");
        container.delete().await.expect("deleted");
        assert_eq!(helpers(), Vec::<String>::new());
    });
}

pub(crate) fn what_pasta_cannot_do_is_refused(scene: &Scene) {
    let net = Net::set(scene);
    if scene.root() {
        net.route();
    }
    let taken = TcpListener::bind((LOCALHOST, 0)).expect("bound");
    let port = taken.local_addr().expect("an address").port();
    scene.play(async |host| {
        let spec = |pasta: Pasta| wired(host, "net", pasta);
        let of = async |spec: ContainerSpec| {
            let errors = host.refused(spec, probe(&["true"])).await;
            assert_eq!(helpers(), Vec::<String>::new());
            let error = errors.0[0].clone();
            (error.kind(), error.field().unwrap_or_default().to_owned(), error.to_string())
        };
        let second = async |one: Publish| loop {
            let first = Pasta::new().publish(Publish::udp(free(UDP), 1).on(LOCALHOST));
            let told = of(spec(first.publish(one.on(LOCALHOST)))).await;
            // As above: the first is taken by now.
            if scene.root() || told.1 != "publish[0]" {
                break told;
            }
        };
        let (kind, field, text) = second(Publish::tcp(port, 80)).await;
        assert_eq!((kind, field.as_str()), (ErrorKind::Exists, "publish[1]"), "{text}");
        assert!(text.contains(&port.to_string()), "{text}");
        // One of several that is taken is not left out in silence.
        let several = Publish { count: 2, ..Publish::tcp(port - 1, 80) };
        let (kind, field, text) = second(several).await;
        assert_eq!((kind, field.as_str()), (ErrorKind::Exists, "publish[1]"), "{text}");
        let nowhere = Pasta::new().publish(Publish::tcp(free(TCP), 80).on([203, 0, 113, 9]));
        let (kind, field, text) = of(spec(nowhere)).await;
        assert_eq!((kind, field.as_str()), (ErrorKind::Invalid, "publish[0]"), "{text}");
        let twice = Pasta::new().publish(Publish::tcp(80, 80)).publish(Publish::tcp(80, 81));
        assert_eq!(of(spec(twice)).await.1, "publish[1]");
        let mut wrong = spec(Pasta::new());
        wrong.network = Network::Host;
        assert_eq!(of(wrong).await.1, "pasta");
        let mut wrong = spec(Pasta::new());
        wrong.join.push(std::sync::Arc::new(std::fs::File::open("/proc/self/ns/net").expect("ours").into()));
        assert_eq!(of(wrong).await.1, "pasta");
        let mut wrong = spec(Pasta::new());
        wrong.user_namespace = UserNamespace::Host;
        let errors = host.refused(wrong, probe(&["true"])).await;
        assert!(errors.0.iter().any(|error| error.field() == Some("pasta") && error.kind() == ErrorKind::Unsupported));
    });
}

pub(crate) fn without_a_route_or_the_program_it_says_so(scene: &Scene) {
    let mut net = Net::set(scene);
    let program = std::fs::canonicalize(Pasta::find().expect("it is installed")).expect("a path");
    scene.play(async |host| {
        let errors = host.refused(wired(host, "net", Pasta::new()), probe(&["true"])).await;
        assert_eq!(errors.0[0].kind(), ErrorKind::Unsupported, "{errors}");
        assert!(errors.0[0].hint().is_some_and(|hint| hint.contains("default route")), "{errors}");
        net.over(std::path::Path::new("/dev/null"), program.to_str().expect("text"));
        let errors = host.refused(wired(host, "net", Pasta::new()), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::NotFound, Some("pasta")), "{errors}");
        assert!(errors.0[0].hint().is_some_and(|hint| hint.contains("passt")), "{errors}");
        assert_eq!(helpers(), Vec::<String>::new());
    });
}
