//! Descriptors out of a container: sockets of its network, terminals of its devpts.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use orangery_runtime::hand::Errand;
use orangery_runtime::spec::{Network, Stdio, User};
use orangery_runtime::{Container, ErrorKind, Pty};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::stock::descendants;
use orangery_tests::{Host, Scene, trial, wait};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{bind, listen};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(a_socket_is_in_the_network_of_the_container),
        trial!(a_socket_of_a_container_in_the_hosts_network),
        trial!(wrong_sockets_are_refused),
        trial!(a_terminal_belongs_to_the_container),
        trial!(a_terminal_belongs_to_the_user, ManyIds),
        trial!(what_is_no_terminal_is_not_taken_for_one),
        trial!(nothing_is_left_of_a_reach_that_is_dropped),
        trial!(a_hand_is_that_user_and_no_more, ManyIds),
        trial!(a_hand_ends_when_it_is_dropped_and_is_missed_when_it_was_killed, ManyIds),
    ])
}

async fn container(host: &Host) -> Box<dyn Container> {
    host.create(host.spec("reached"), probe(&["deaf"])).await.expect("created")
}

/// Listen there, at this port.
fn listening(socket: OwnedFd, port: u16) -> TcpListener {
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("nobody listens there in its network");
    listen(&socket, 1).expect("listening");
    TcpListener::from(socket)
}

/// It listens where only the inside can reach it.
fn a_socket_is_in_the_network_of_the_container(scene: &Scene) {
    scene.play(async |host| {
        // Somebody listens at the same port outside, which two cannot do in one network.
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = outside.local_addr().expect("an address").port();
        let container = container(host).await;
        let socket = wait::soon("a socket", container.socket(libc::AF_INET as u32, libc::SOCK_STREAM as u32)).await;
        let listener = listening(socket.expect("a socket"), port);
        let process = container.exec(probe(&["connect", &port.to_string()])).await.expect("started");
        assert!(wait::readable(&listener, wait::PATIENCE), "nobody came");
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut word = [0; 5];
        stream.read_exact(&mut word).expect("read");
        assert_eq!(&word, b"hello");
        stream.write_all(b"good day").expect("answered");
        drop(stream);
        let outcome = outcome(process).await;
        assert_eq!((outcome.code(), outcome.out.trim()), (0, "good day"), "{outcome:?}");
        container.delete().await.expect("deleted");
    });
}

fn a_socket_of_a_container_in_the_hosts_network(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("reached");
        spec.network = Network::Host;
        let container = host.create(spec, probe(&["deaf"])).await.expect("created");
        let socket = container.socket(libc::AF_INET as u32, libc::SOCK_STREAM as u32).await.expect("a socket");
        let listener = listening(socket, 0);
        TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens in the host's network");
        container.delete().await.expect("deleted");
    });
}

fn wrong_sockets_are_refused(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        for (family, kind) in [(9999, 1), (2, 9999), (u32::MAX, u32::MAX)] {
            let error = container.socket(family, kind).await.expect_err("refused");
            assert_eq!(error.field(), Some("socket"), "{error:?}");
            assert!(error.errno().is_some(), "{error:?}");
        }
        // The flags of a type are the caller's.
        let kind = (libc::SOCK_DGRAM | libc::SOCK_NONBLOCK) as u32;
        let socket = container.socket(libc::AF_INET as u32, kind).await.expect("a socket");
        assert!(rustix::fs::fcntl_getfl(&socket).expect("flags").contains(OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(&socket).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        let address = rustix::net::getsockname(&socket).expect("a name");
        assert!(matches!(SocketAddrV4::try_from(address), Ok(any) if any.ip().is_unspecified()));
        container.delete().await.expect("deleted");
        let error = container.socket(2, 1).await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::State);
    });
}

/// Read lines from a master until one that begins with `end`.
fn read_to(master: &OwnedFd, end: &str) -> Vec<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(wait::readable(master, wait::PATIENCE), "no more than {text:?}");
        // EIO: the last slave is closed.
        match rustix::io::read(master, &mut buffer) {
            Ok(0) | Err(Errno::IO) => panic!("the end after {text:?}"),
            Ok(len) => text.push_str(&String::from_utf8_lossy(&buffer[..len])),
            Err(error) => panic!("{error} after {text:?}"),
        }
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if text.ends_with('\n') && lines.last().is_some_and(|line| line.starts_with(end)) {
            return lines;
        }
    }
}

/// A process with the slave as its three streams sees a terminal of its own devpts, may open it by its name, and reads
/// what is typed at the master. The second terminal is another one.
fn a_terminal_belongs_to_the_container(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let (first, second) = (container.pty().await.expect("a pty"), container.pty().await.expect("a pty"));
        talk(&*container, second, "/dev/pts/1", "0").await;
        talk(&*container, first, "/dev/pts/0", "0").await;
        container.delete().await.expect("deleted");
        let error = container.pty().await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::State);
    });
}

async fn talk(container: &dyn Container, pty: Pty, name: &str, owner: &str) {
    let Pty { master, slave } = pty;
    let mut process = command(&[
        "sh",
        "-c",
        "test -t 0 && tty && stat -c 'owner %u' $(tty) && echo by name > $(tty) && read line && echo \"done $line\"",
    ]);
    let slave = Arc::new(slave);
    (process.stdin, process.stdout, process.stderr) =
        (Stdio::Fd(Arc::clone(&slave)), Stdio::Fd(Arc::clone(&slave)), Stdio::Fd(slave));
    let started = container.exec(process).await.expect("started");
    // Its echo comes in between what is written.
    let mut lines = read_to(&master, "by name");
    rustix::io::write(&master, b"typed\n").expect("typed");
    lines.extend(read_to(&master, "done"));
    let has = |line: &str| lines.iter().any(|seen| seen == line);
    assert!(has(name) && has(&format!("owner {owner}")) && has("by name") && has("done typed"), "{lines:?}");
    let exit = wait::soon("an exit", started.exit).await.expect("told");
    assert_eq!(exit.status, orangery_runtime::ExitStatus::Code(0), "{lines:?}");
}

fn a_terminal_belongs_to_the_user(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["deaf"]);
        main.user = User::Ids { uid: 1234, gid: 1234 };
        let container = host.create(host.spec("reached"), main).await.expect("created");
        let pty = container.pty().await.expect("a pty");
        let mut process = command(&["sh", "-c", "stat -c 'done %u' $(tty)"]);
        process.user = User::Ids { uid: 1234, gid: 1234 };
        process.stdin = Stdio::Fd(Arc::new(pty.slave.try_clone().expect("a copy")));
        process.stdout = Stdio::Fd(Arc::new(pty.slave));
        let started = container.exec(process).await.expect("started");
        assert_eq!(read_to(&pty.master, "done"), ["done 1234"]);
        wait::soon("an exit", started.exit).await.expect("told");
        container.delete().await.expect("deleted");
    });
}

/// The workload hides its devpts behind something of its own.
fn what_is_no_terminal_is_not_taken_for_one(scene: &Scene) {
    use orangery_runtime::spec::Mount;
    scene.play(async |host| {
        let fifo = scene.dir().join("pts");
        std::fs::create_dir(&fifo).expect("a directory");
        std::fs::write(fifo.join("ptmx"), "not a terminal").expect("a file");
        for (name, mode) in [(fifo.clone(), 0o755), (fifo.join("ptmx"), 0o666)] {
            std::fs::set_permissions(name, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("its mode");
        }
        let mut spec = host.spec("reached");
        spec.mounts.push(Mount::bind(fifo, "/dev/pts"));
        let container = match host.create(spec, probe(&["deaf"])).await {
            Ok(container) => container,
            Err(refused) => panic!("{refused}"),
        };
        let error = container.pty().await.expect_err("refused");
        assert_eq!(error.field(), Some("pty"), "{error:?}");
        container.delete().await.expect("deleted");
    });
}

/// Dropped at every poll: the scene takes stock of processes and descriptors.
fn nothing_is_left_of_a_reach_that_is_dropped(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        for polls in 0..8 {
            polled(container.pty(), polls).await;
            polled(container.hand((0, 0)), polls).await;
        }
        container.delete().await.expect("deleted");
    });
}

/// Dropped after so many polls, or when it is ready.
async fn polled<T>(mut reaching: orangery_runtime::BoxFuture<T>, polls: usize) {
    for _ in 0..polls {
        let done = std::future::poll_fn(|cx| std::task::Poll::Ready(reaching.as_mut().poll(cx).is_ready())).await;
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// Its directory is its own; it is nobody else, and where it is the keeper's root it has no capability.
fn a_hand_is_that_user_and_no_more(scene: &Scene) {
    let open = scene.dir().join("open");
    std::fs::create_dir(&open).expect("a directory");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("its mode");
    scene.play(async |host| {
        let container = container(host).await;
        let place = std::fs::File::open(&open).expect("opened");
        let mut hand = container.hand((1, 1)).await.expect("a hand");
        let make = Errand::MakeDirectory { name: "d".as_ref(), mode: Mode::RWXU };
        let made = hand.carry_out(&make, &place).expect("an answer");
        assert!(matches!(made, Ok(None)), "{made:?}");
        assert_eq!(hand.carry_out(&make, &place).expect("an answer").unwrap_err(), Errno::EXIST);
        let folder = Errand::Open {
            path: "d".as_ref(),
            flags: OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            mode: Mode::empty(),
        };
        for other in [(0, 0), (0, 1), (2, 1)] {
            let mut theirs = container.hand(other).await.expect("a hand");
            assert_eq!(theirs.carry_out(&folder, &place).expect("an answer").unwrap_err(), Errno::ACCESS, "{other:?}");
        }
        let inside = hand.carry_out(&folder, &place).expect("an answer").expect("opened").expect("a descriptor");
        assert!(rustix::io::fcntl_getfd(&inside).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        let stat = rustix::fs::fstat(&inside).expect("looked at");
        assert_eq!(stat.st_uid == 1, host.root(), "{}", stat.st_uid);
        assert_eq!(stat.st_mode & 0o7777, 0o700);
        let mode = Errand::ChangeMode { mode: Mode::RWXU | Mode::RWXG };
        assert!(hand.carry_out(&mode, &inside).expect("an answer").is_ok());
        assert_eq!(rustix::fs::fstat(&inside).expect("looked at").st_mode & 0o7777, 0o770);
        hand.carry_out(&Errand::Remove { name: "d".as_ref(), directory: true }, &place)
            .expect("an answer")
            .expect("removed");
        container.delete().await.expect("deleted");
    });
}

fn hands() -> Vec<OwnedFd> {
    let all = descendants(std::process::id()).into_iter().filter(|process| process.name == "orangery-hand");
    all.filter_map(|process| wait::try_pidfd(process.pid)).collect()
}

fn a_hand_ends_when_it_is_dropped_and_is_missed_when_it_was_killed(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let place = std::fs::File::open("/").expect("opened");
        let here = Errand::OpenInside { path: ".".as_ref(), flags: OFlags::PATH | OFlags::CLOEXEC };
        let mut hand = container.hand((1, 1)).await.expect("a hand");
        // Neither the container nor its namespaces are needed.
        container.delete().await.expect("deleted");
        assert!(hand.carry_out(&here, &place).expect("an answer").is_ok());
        let [seen] = <[OwnedFd; 1]>::try_from(hands()).expect("one hand");
        drop(hand);
        wait::gone(&seen, "a hand that was dropped");

        let mut hand = container.hand((1, 1)).await.expect("another one");
        for seen in hands() {
            wait::kill(&seen);
            wait::gone(&seen, "a hand that was killed");
        }
        let error = hand.carry_out(&here, &place).expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::Keeper, "{error:?}");
    });
}
