//! A supervisor that goes while its keeper stays: what was running goes on, what was written is in the logs, and the next
//! supervisor is told all of it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::keeper::{Found, Holding, Kept, adopt};
use orangery_runtime::native::{End, NativeRuntime, Options, now_ns};
use orangery_runtime::plan::wire::{self, Ask, Message, Tell};
use orangery_runtime::spec::Stdio as SpecStdio;
use orangery_runtime::{Act, Deadline, ErrorKind, Exit, ExitStatus, ProcessSpec, Rung, Runtime as _};
use orangery_tests::host::probe;
use orangery_tests::noise::{period, stands_at};
use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim, keeper, reap_adopted};
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Host, Scene, trial};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{SpliceFlags, splice};
use rustix::process::{Signal, pidfd_send_signal};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(the_next_supervisor_finds_everything),
        trial!(a_flood_is_exact_wherever_its_reader_is_killed).long(),
        trial!(a_log_grows_no_further_than_it_may),
        trial!(deadlines_are_kept_without_a_supervisor),
        trial!(ladders_are_gone_down_without_a_supervisor),
        trial!(a_supervisor_that_lives_is_followed_when_it_leaves),
        trial!(a_keeper_with_nothing_to_hold_ends),
        trial!(the_door_is_for_the_same_user_and_protocol),
        trial!(strangers_do_not_come_in, Root),
        trial!(what_is_no_pipe_or_no_log_is_not_stored),
        trial!(what_is_discarded_is_closed),
        trial!(a_door_is_private),
    ])
}

const MIB: u64 = 1 << 20;
const NO_LIMIT: u64 = u64::MAX;

fn door(scene: &Scene) -> PathBuf {
    scene.state_dir().join("door")
}

/// A scene whose state directory is there, as its door needs.
fn options(scene: &Scene) -> Options {
    use std::os::unix::fs::DirBuilderExt as _;
    let _ = fs::DirBuilder::new().mode(0o700).create(scene.state_dir());
    let mut options = scene.options();
    options.end = End::Keep;
    options.door = Some(door(scene));
    options
}

fn log(scene: &Scene, name: &str) -> PathBuf {
    scene.dir().join(format!("{name}.log"))
}

/// Start `main` in a container of its own, its output stored with a log.
async fn start(host: &Host, scene: &Scene, name: &str, main: ProcessSpec, most: u64) -> orangery_runtime::Started {
    let container = host.create(host.spec(name), main).await.expect("created");
    let started = container.start().await.expect("started");
    let file = File::options().write(true).create_new(true).open(log(scene, name)).expect("a log");
    let pipe = started.stdout.as_ref().expect("stdout").try_clone().expect("a copy");
    host.rt.keeper().store(name.as_bytes(), Holding::output(pipe, file.into(), most)).await.expect("stored");
    if let Some(stdin) = &started.stdin {
        let stdin = Holding::pipe(stdin.try_clone().expect("a copy"));
        host.rt.keeper().store(format!("{name}.in").as_bytes(), stdin).await.expect("stored");
    }
    // Its end is the keeper's: nothing of it is undone by a drop.
    drop(container);
    started
}

/// The supervisor to be killed: starts what its role says, says "ready" with the pids, and empties the first pipe.
fn be_supervisor(scene: &Scene) -> bool {
    let Some(role) = victim::role() else { return false };
    scene.block_on(async {
        let (rt, driver) = NativeRuntime::start(options(scene)).expect("a runtime");
        let _driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        match role.as_str() {
            "nothing" => println!("ready"),
            "deadline" => {
                let container = host.create(host.spec("late"), probe(&["deaf"])).await.expect("created");
                let started = container.start().await.expect("started");
                assert_eq!(Lines::of(started.stdout.expect("stdout")).next().await, "ready");
                let far = Deadline { at_ns: now_ns() + 3_600_000_000_000, at_end: false };
                let never = Deadline { at_ns: NO_LIMIT, at_end: false };
                let soon = Deadline { at_ns: now_ns() + 200_000_000, at_end: false };
                let mut leases = Vec::new();
                for when in [far, never, soon] {
                    leases.push(container.lease(when, Act::Kill).await.expect("armed"));
                }
                println!("{}", started.pid);
                std::future::pending::<()>().await;
                drop((leases, container));
            }
            role if role.starts_with("ladder ") => {
                let after: u64 = role.trim_start_matches("ladder ").parse().expect("nanoseconds");
                ladders(&host, now_ns() + after).await;
            }
            _ => everything(&host, scene, &role).await,
        }
        std::future::pending::<()>().await;
    });
    true
}

/// One that ends when it is asked, and one that is killed then.
async fn ladders(host: &Host, asked_at: u64) {
    let mut held = Vec::new();
    for (name, kill_at) in [("wait", NO_LIMIT), ("deaf", asked_at + 1)] {
        let mut main = probe(&[name]);
        main.stdin = SpecStdio::Piped;
        let container = host.create(host.spec(name), main).await.expect("created");
        let mut started = container.start().await.expect("started");
        assert_eq!(Lines::of(started.stdout.take().expect("stdout")).next().await, "ready");
        // What it reads does not end with us.
        let stdin = Holding::pipe(started.stdin.take().expect("stdin"));
        host.rt.keeper().store(name.as_bytes(), stdin).await.expect("stored");
        let rungs = [15, 2].map(|signal| Rung { at_ns: asked_at, signal }).to_vec();
        let act = Act::Ladder { to: Arc::clone(&started.pidfd), rungs, all: true };
        let lease = container.lease(Deadline { at_ns: kill_at, at_end: false }, act).await.expect("armed");
        held.push((container, started, lease));
    }
    println!("{} {} {asked_at}", held[0].1.pid, held[1].1.pid);
    std::future::pending::<()>().await;
    drop(held);
}

async fn everything(host: &Host, scene: &Scene, role: &str) {
    let most = if role == "capped" { MIB } else { NO_LIMIT };
    let total = if role == "flood" { 16 * MIB } else { 3 * MIB };
    let mut waits = probe(&["wait"]);
    waits.stdin = SpecStdio::Piped;
    let flood = start(host, scene, "flood", probe(&["noise", &total.to_string()]), most).await;
    let waits = start(host, scene, "waits", waits, most).await;
    let deaf = start(host, scene, "deaf", probe(&["deaf"]), most).await;
    // So that whoever empties its pipe finds it there.
    assert!(wait::readable(deaf.stdout.as_ref().expect("stdout"), wait::PATIENCE), "it says that it is ready");
    println!("{} {} {}", flood.pid, waits.pid, deaf.pid);
    let mut input = String::new();
    let wanted: u64 = match role.split_once(' ') {
        Some((_, wanted)) => wanted.parse().expect("a number"),
        None => NO_LIMIT,
    };
    let pipe = flood.stdout.expect("stdout");
    let mut taken = 0;
    // Through a description of our own: the log's length is the truth, and nobody's position is.
    let mut file = File::options().write(true).open(log(scene, "flood")).expect("the log");
    while taken < wanted && role != "capped" {
        file.seek(SeekFrom::End(0)).expect("its end");
        match splice(&pipe, None, file.as_fd(), None, 1 << 16, SpliceFlags::empty()).expect("spliced") {
            0 => break,
            len => taken += len as u64,
        }
    }
    println!("taken");
    let _ = std::io::stdin().read_to_string(&mut input);
    std::future::pending::<()>().await;
    drop((waits, deaf));
}

/// Take over; what is found is everything, and its driver runs.
fn next(scene: &Scene, end: wire::End) -> Found {
    adopt(&door(scene), end).expect("adopted")
}

/// The end of each process that was found, by its id.
async fn exits(found: &mut Vec<orangery_runtime::keeper::Child>) -> Vec<(i32, Exit)> {
    let mut exits = Vec::new();
    for child in found.drain(..) {
        exits.push((child.pid, wait::soon("an exit", child.exit).await.expect("told")));
    }
    exits
}

/// All that a pipe still holds.
fn rest(pipe: &OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(pipe.try_clone().expect("a copy")).read_to_end(&mut bytes).expect("read");
    bytes
}

fn kept<'a>(found: &'a [Kept], label: &str) -> &'a Kept {
    found.iter().find(|kept| kept.label == label.as_bytes()).unwrap_or_else(|| panic!("{label} was not kept"))
}

/// The log and what is left in the pipe are the whole sequence.
fn exact(scene: &Scene, kept: &Kept, total: u64) {
    let noise = period();
    let mut bytes = fs::read(log(scene, "flood")).expect("the log");
    let logged = bytes.len();
    bytes.extend(rest(&kept.fd));
    assert!(kept.drained.logged <= logged as u64, "{:?}", kept.drained);
    assert_eq!(bytes.len() as u64, total, "{logged} in the log, {:?}", kept.drained);
    assert!(stands_at(&noise, 0, &bytes), "another sequence");
}

/// End everything through the one keeper that there is: kill what lives, leave, wait for the keeper.
async fn finish(found: Found) {
    let Found { client, driver, children, deadlines, kept, .. } = found;
    for child in &children {
        let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    }
    drop((deadlines, kept));
    let driver = tokio::spawn(driver.run());
    client.close();
    wait::soon("the driver's end", driver).await.expect("no panic");
}

/// The pids of a line.
fn pids(line: &str) -> Vec<u32> {
    line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

/// What is left of a scene when the keeper has ended: nothing but its door.
fn tidy(scene: &Scene, keeper: &OwnedFd) {
    wait::gone(keeper, "the keeper");
    reap_adopted();
    fs::remove_file(door(scene)).expect("the door");
}

fn the_next_supervisor_finds_everything(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "all 1000000");
    let pids = pids(&supervisor.line());
    assert_eq!(supervisor.line(), "taken");
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    let flood = wait::pidfd(pids[0]);
    supervisor.kill();
    // Two MiB and more do not fit into a pipe: somebody empties it.
    wait::gone(&flood, "a workload that nobody but the keeper reads");
    scene.block_on(async {
        let mut found = next(scene, wire::End::Kill);
        // The main processes, and the inits of their containers.
        let all: Vec<u32> = found.children.iter().map(|child| child.pid.cast_unsigned()).collect();
        assert!(all.len() == 6 && pids.iter().all(|pid| all.contains(pid)), "{all:?} {pids:?}");
        let labels: Vec<String> =
            found.kept.iter().map(|kept| String::from_utf8_lossy(&kept.label).into_owned()).collect();
        assert_eq!(labels, ["flood", "waits", "waits.in", "deaf"]);
        let drained = kept(&found.kept, "flood").drained;
        assert!(drained.logged > 0 && drained.lost == 0 && drained.errno == 0 && drained.ended, "{drained:?}");
        assert!(drained.since_ns < now_ns(), "{drained:?}");
        exact(scene, kept(&found.kept, "flood"), 3 * MIB);
        assert_eq!(fs::read(log(scene, "deaf")).expect("its log"), b"ready\n");
        // What waits for its input still has one: the keeper has held it.
        let waits = found.children.iter().find(|child| child.pid.cast_unsigned() == pids[1]).expect("found");
        assert!(!wait::readable(&waits.pidfd, Duration::ZERO), "it has lost its input");
        let place = found.kept.iter().position(|kept| kept.label == b"waits.in").expect("kept");
        let input = found.kept.remove(place);
        input.stored.discard();
        drop(input.fd);
        let driver = tokio::spawn(found.driver.run());
        for child in &found.children {
            if child.pid.cast_unsigned() != pids[0] && child.pid.cast_unsigned() != pids[1] {
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            }
        }
        let ends = exits(&mut found.children).await;
        let end = |pid: u32| &ends.iter().find(|(found, _)| found.cast_unsigned() == pid).expect("an end").1;
        assert_eq!(end(pids[0]).status, ExitStatus::Code(0));
        let rusage = end(pids[0]).rusage.expect("as its parent has seen it");
        assert!(rusage.max_rss_kib > 0 && rusage.user_us + rusage.system_us > 0, "{rusage:?}");
        assert_eq!(end(pids[2]).status, ExitStatus::Signal { signal: 9, core_dumped: false });
        found.client.close();
        wait::soon("the driver's end", driver).await.expect("no panic");
    });
    tidy(scene, keeper);
}

/// Twenty floods into a log, their reader killed after another number of bytes each time.
fn a_flood_is_exact_wherever_its_reader_is_killed(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut seed = 0x5eed_0001_u64;
    println!("seed {seed:#x}");
    for _ in 0..20 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = seed >> 33 & 0xf_ffff;
        // It goes on splicing: nothing but the kill ends that.
        let mut supervisor = Victim::start(scene, "flood");
        supervisor.line();
        let family = supervisor.family();
        let (_, keeper) = keeper(&family);
        while fs::metadata(log(scene, "flood")).map_or(0, |meta| meta.len()) < after {
            std::thread::yield_now();
        }
        supervisor.kill();
        scene.block_on(async {
            let found = next(scene, wire::End::Kill);
            exact(scene, kept(&found.kept, "flood"), 16 * MIB);
            finish(found).await;
        });
        tidy(scene, keeper);
        for name in ["flood", "waits", "deaf"] {
            fs::remove_file(log(scene, name)).expect("a log");
        }
    }
}

fn a_log_grows_no_further_than_it_may(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "capped");
    let flood = wait::pidfd(pids(&supervisor.line())[0]);
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    supervisor.kill();
    wait::gone(&flood, "the flood");
    scene.block_on(async {
        let found = next(scene, wire::End::Kill);
        let flood = kept(&found.kept, "flood");
        let rest = rest(&flood.fd);
        let bytes = fs::read(log(scene, "flood")).expect("the log");
        assert_eq!((bytes.len() as u64, flood.drained.logged, flood.drained.errno), (MIB, MIB, libc::ENOSPC));
        assert_eq!(flood.drained.lost + rest.len() as u64, 2 * MIB, "{:?}", flood.drained);
        assert!(stands_at(&period(), 0, &bytes), "another sequence");
        assert!(stands_at(&period(), 3 * MIB - rest.len() as u64, &rest), "another sequence after the hole");
        finish(found).await;
    });
    tidy(scene, keeper);
}

fn deadlines_are_kept_without_a_supervisor(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "deadline");
    // On a busy machine its deadline may have come before the kill.
    let main = wait::try_pidfd(pids(&supervisor.line())[0]);
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    supervisor.kill();
    if let Some(main) = main {
        wait::gone(&main, "a process at its deadline");
    }
    scene.block_on(async {
        let mut found = next(scene, wire::End::Kill);
        let mut left: Vec<u64> = found.deadlines.iter().map(|(_, at, _)| *at).collect();
        left.sort_unstable();
        // Before those the one that was carried out, unless that was told to the one before.
        assert!(matches!(left[..], [.., far, NO_LIMIT] if far > now_ns()), "{left:?}");
        let driver = tokio::spawn(found.driver.run());
        for (_, exit) in exits(&mut found.children).await {
            assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        }
        found.client.close();
        wait::soon("the driver's end", driver).await.expect("no panic");
    });
    tidy(scene, keeper);
}

/// Asked, and killed, while nobody is there; the next supervisor is told how far each has come.
fn ladders_are_gone_down_without_a_supervisor(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut after = 500_000_000;
    let (mains, family) = loop {
        let mut supervisor = Victim::start(scene, &format!("ladder {after}"));
        let line = supervisor.line();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let mains = [numbers[0], numbers[1]].map(|pid| (pid as i32, wait::try_pidfd(pid as u32)));
        let family = supervisor.family();
        supervisor.kill();
        if let (true, [(one, Some(first)), (two, Some(second))]) = (now_ns() < numbers[2], mains) {
            break ([(one, first), (two, second)], family);
        }
        // It was told while it lived: once more, with more time.
        scene.block_on(async { finish(next(scene, wire::End::Kill)).await });
        tidy(scene, &keeper(&family).1);
        after *= 2;
    };
    mains.iter().for_each(|(_, pidfd)| wait::gone(pidfd, "a process at the end of its ladder"));
    scene.block_on(async {
        let mut found = next(scene, wire::End::Kill);
        let driver = tokio::spawn(found.driver.run());
        // Those that were nobody's business: the pid 1 of who has answered.
        for child in found.children.iter().filter(|child| mains.iter().all(|(pid, _)| *pid != child.pid)) {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
        }
        let exits = exits(&mut found.children).await;
        for ((pid, _), signal) in mains.iter().zip([15, 9]) {
            let exit = exits.iter().find(|(of, _)| of == pid).expect("its exit is kept").1;
            assert_eq!(exit.status, ExitStatus::Signal { signal, core_dumped: false });
        }
        let mut done: Vec<_> = found.deadlines.iter().map(|(_, _, lease)| (lease.sent(), lease.fired())).collect();
        done.sort_unstable();
        assert_eq!(done, [(2, None), (2, Some(0))]);
        found.client.close();
        wait::soon("the driver's end", driver).await.expect("no panic");
    });
    tidy(scene, &keeper(&family).1);
}

/// Somebody stands at the door while there is a supervisor, and comes in when that leaves in so many words.
fn a_supervisor_that_lives_is_followed_when_it_leaves(scene: &Scene) {
    scene.block_on(async {
        let (rt, driver) = NativeRuntime::start(options(scene)).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        let keeper = wait::pidfd(host.rt.keeper_pid());
        let started = start(&host, scene, "deaf", probe(&["deaf"]), NO_LIMIT).await;
        let path = door(scene);
        let waiting = tokio::task::spawn_blocking(move || adopt(&path, wire::End::Keep));
        // The second supervisor of one process: what it is told has crossed the socket all the same.
        host.rt.shutdown().await;
        wait::soon("the first driver", driver).await.expect("no panic");
        let found = wait::soon("the next supervisor", waiting).await.expect("no panic").expect("adopted");
        assert!(found.children.iter().any(|child| child.pid == started.pid), "{:?}", found.children);
        let drained = kept(&found.kept, "deaf").drained;
        assert_eq!((drained.lost, drained.errno, drained.ended), (0, 0, false));
        // And once more: the keeper is left by one and found by another as often as they like.
        finish_and_keep(found).await;
        let found = next(scene, wire::End::Kill);
        assert!(found.children.iter().any(|child| child.pid == started.pid), "{:?}", found.children);
        finish(found).await;
        wait::gone(&keeper, "the keeper");
        drop(started);
    });
    reap_adopted();
    fs::remove_file(door(scene)).expect("the door");
}

async fn finish_and_keep(found: Found) {
    let driver = tokio::spawn(found.driver.run());
    found.client.close();
    wait::soon("the driver's end", driver).await.expect("no panic");
}

fn a_keeper_with_nothing_to_hold_ends(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "nothing");
    assert_eq!(supervisor.line(), "ready");
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    supervisor.kill();
    tidy(scene, keeper);
    let error = adopt(&door(scene), wire::End::Kill).map(drop).expect_err("nobody there");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::State, Some(libc::ENOENT)));
}

fn knock(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket");
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("connected");
    socket
}

/// What the keeper answers: its message, or `None` for the end.
fn answer(socket: &OwnedFd) -> Option<Message> {
    assert!(wait::readable(socket, wait::PATIENCE), "no answer");
    let mut bytes = [0; 256];
    match rustix::net::recv(socket, &mut bytes, rustix::net::RecvFlags::empty()) {
        Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => None,
        other => {
            other.expect("heard");
            Some(Message::decode(&bytes).expect("our protocol"))
        }
    }
}

fn the_door_is_for_the_same_user_and_protocol(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "all 0");
    let pids = pids(&supervisor.line());
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    supervisor.kill();
    let silent = knock(&door(scene));
    let mut other = Message { kind: Ask::Hello as u16, ..Message::default() }.encode();
    other[4] ^= 1;
    let release = Message { kind: Ask::Hello as u16, x: wire::End::Release as u64, ..Message::default() }.encode();
    let spawn = Message { kind: Ask::Spawn as u16, ..Message::default() }.encode();
    for wrong in [&other[..], b"", b"x", &release, &spawn] {
        let guest = knock(&door(scene));
        rustix::net::send(&guest, wrong, SendFlags::NOSIGNAL).expect("sent");
        match answer(&guest) {
            Some(refused) => {
                assert_eq!((refused.kind, refused.errno), (Tell::Failed as u16, libc::EPROTO));
                assert!(answer(&guest).is_none(), "it is sent away");
            }
            None => assert!(wrong.is_empty(), "{wrong:?} was not answered"),
        }
    }
    assert!(answer(&silent).is_none(), "who says nothing gives way");
    // It stands there and says nothing while another one comes.
    let _silent = knock(&door(scene));
    scene.block_on(async {
        let found = next(scene, wire::End::Kill);
        assert!(found.children.iter().any(|child| child.pid.cast_unsigned() == pids[2]));
        finish(found).await;
    });
    tidy(scene, keeper);
}

const STRANGER: &str = "ORANGERY_TEST_STRANGER";

/// Another user, before whom every door stands open, is not let in.
#[expect(clippy::disallowed_methods, reason = "another user")]
fn strangers_do_not_come_in(scene: &Scene) {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if let Some(path) = std::env::var_os(STRANGER) {
        let guest = knock(Path::new(&path));
        let hello = Message { kind: Ask::Hello as u16, ..Message::default() };
        let _ = rustix::net::send(&guest, &hello.encode(), SendFlags::NOSIGNAL);
        assert!(answer(&guest).is_none(), "let in");
        return;
    }
    if be_supervisor(scene) {
        return;
    }
    let mut supervisor = Victim::start(scene, "all 0");
    let line = supervisor.line();
    let family = supervisor.family();
    let (_, keeper) = keeper(&family);
    supervisor.kill();
    for (path, mode) in [(scene.state_dir(), 0o755), (door(scene), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("open to all");
    }
    // A copy that another user can run, wherever this one lies.
    let program = scene.dir().join("stranger");
    fs::copy(std::env::current_exe().expect("us"), &program).expect("copied");
    let mut stranger = Command::new(&program);
    let stranger = scene.share(&mut stranger).env(STRANGER, door(scene)).uid(1000).gid(1000);
    let output = stranger.stdin(Stdio::null()).output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    scene.block_on(async {
        let found = next(scene, wire::End::Kill);
        assert!(found.children.iter().any(|child| child.pid.cast_unsigned() == pids(&line)[2]));
        finish(found).await;
    });
    tidy(scene, keeper);
}

fn what_is_no_pipe_or_no_log_is_not_stored(scene: &Scene) {
    scene.play(async |host| {
        let keeper = host.rt.keeper();
        let file = |append: bool| -> OwnedFd {
            let path = scene.dir().join("file");
            File::options().create(true).append(append).write(true).open(path).expect("a file").into()
        };
        let (pipe, _writer) = std::io::pipe().expect("a pipe");
        let pipe = || -> OwnedFd { pipe.try_clone().expect("a copy").into() };
        let readable: OwnedFd = File::open(scene.probe()).expect("a file").into();
        for (what, holding) in [
            ("an appending log", Holding::output(pipe(), file(true), NO_LIMIT)),
            ("a log that cannot be written", Holding::output(pipe(), readable, NO_LIMIT)),
            ("a log that is a pipe", Holding::output(pipe(), pipe(), NO_LIMIT)),
            ("a file that is emptied", Holding::output(file(false), file(false), NO_LIMIT)),
        ] {
            let error = keeper.store(b"x", holding).await.expect_err(what);
            assert_eq!((error.kind(), error.errno()), (ErrorKind::Invalid, Some(libc::EINVAL)), "{what}");
        }
        let error = keeper.store(&[b'x'; wire::LABEL + 1], Holding::pipe(pipe())).await.expect_err("too long");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("label")));
        let stored = keeper.store(&[b'x'; wire::LABEL], Holding::pipe(pipe())).await.expect("stored");
        stored.replace(b"y", Holding::output(pipe(), file(false), 1)).await.expect("replaced");
        let error = stored.replace(b"z", Holding::output(pipe(), file(true), 1)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

/// Its descriptors are as many as before, whatever was stored, replaced and refused; places are used again.
fn what_is_discarded_is_closed(scene: &Scene) {
    /// Of `runtime/keeper/sys.rs`.
    const HIGH: u32 = 256;
    scene.play(async |host| {
        let keeper = host.rt.keeper();
        // Those that it keeps, which it moves up to HIGH: what a request brought is closed after its answer, so perhaps just now.
        let count = || {
            let entries = fs::read_dir(format!("/proc/{}/fd", host.rt.keeper_pid())).expect("its descriptors");
            let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
            numbers.filter(|number| *number >= HIGH).count()
        };
        let (pipe, mut writer) = std::io::pipe().expect("a pipe");
        // An answer says that all before it was done.
        let answered = async || {
            let copy = || pipe.try_clone().expect("a copy").into();
            keeper.store(b"x", Holding::output(copy(), copy(), 0)).await.expect_err("no log");
        };
        answered().await;
        let before = count();
        for round in 0..3 {
            let mut all = Vec::new();
            for n in 0..100 {
                let copy = pipe.try_clone().expect("a copy").into();
                let stored = keeper.store(format!("{round} {n}").as_bytes(), Holding::pipe(copy)).await;
                all.push(stored.expect("stored"));
            }
            for stored in all {
                let copy = pipe.try_clone().expect("a copy").into();
                stored.replace(b"again", Holding::pipe(copy)).await.expect("replaced");
                stored.discard();
            }
        }
        answered().await;
        assert_eq!(count(), before);
        drop(pipe);
        // What the last request brought is closed a moment after its answer: then the pipe says so (POLLERR).
        wait::gone(&writer, "the other end");
        let error = writer.write(b"x").expect_err("nobody has the other end");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    });
}

fn a_door_is_private(scene: &Scene) {
    use std::os::unix::fs::PermissionsExt as _;
    let refused = |options: Options| scene.block_on(async { NativeRuntime::start(options).map(drop) });
    let mut options = options(scene);
    let error = {
        let mut other = options.clone();
        other.door = Some(scene.dir().join("door"));
        refused(other).expect_err("others can enter")
    };
    assert_eq!((error.kind(), error.field()), (ErrorKind::Permission, Some("door")));
    fs::write(door(scene), "precious").expect("a file");
    let error = refused(options.clone()).expect_err("something else");
    assert_eq!((error.kind(), error.field()), (ErrorKind::Exists, Some("door")));
    assert_eq!(fs::read_to_string(door(scene)).expect("still there"), "precious");
    fs::remove_file(door(scene)).expect("removed");
    options.end = End::Kill;
    let error = refused(options.clone()).expect_err("no use for it");
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("door")));
    (options.end, options.door) = (End::Keep, None);
    let error = refused(options).expect_err("no place to come to");
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("door")));
    // One that a killed supervisor has left is replaced.
    for _ in 0..2 {
        let listener = orangery_runtime::keeper::listen(&door(scene)).expect("a door");
        let mode = fs::metadata(door(scene)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = orangery_runtime::keeper::listen(&door(scene)).expect_err("somebody listens");
        assert_eq!(error.kind(), ErrorKind::Exists);
        drop(listener);
    }
    fs::remove_file(door(scene)).expect("removed");
    assert!(descendants(std::process::id()).is_empty(), "no keeper was started");
}
