//! The keeper alone: what it is made of, what it costs, what it refuses, and that a host need not know of it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs;
use std::os::fd::AsFd;
use std::process::ExitCode;

use orangery_fuzz::Seeded;
use orangery_runtime::plan::wire::{self, Ask, MESSAGE, Message, Purpose, Tell};
use orangery_runtime::{ErrorKind, ExitStatus, Runtime as _};
use orangery_tests::cold::Cold;
use orangery_tests::host::{command, outcome, probe, see};
use orangery_tests::raw::{Raw, framed};
use orangery_tests::stock::descendants;
use orangery_tests::{Host, Scene, trial, wait};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(it_maps_its_own_image_and_no_library),
        trial!(it_is_sealed_and_hidden),
        trial!(its_memory_stays_small),
        trial!(its_descriptor_table_stays_small),
        trial!(the_score_of_a_process_is_not_its),
        trial!(it_starts_from_a_file, Root),
        trial!(a_wrong_keeper_path_is_told),
        trial!(a_driver_that_never_runs_leaves_no_keeper),
        trial!(mutants_of_a_plan_never_panic_the_check),
        trial!(garbage_is_refused_and_it_lives),
        trial!(hostile_plans_are_refused_and_it_lives),
        trial!(descriptors_of_refused_requests_are_closed),
        trial!(it_goes_when_the_socket_closes),
        trial!(a_host_that_reaps_everything),
        trial!(a_host_that_ignores_its_children).long(),
        trial!(a_host_with_blocked_signals_and_odd_limits),
        trial!(a_host_with_few_descriptors),
        trial!(too_few_descriptors_are_told),
        trial!(an_answer_that_cannot_be_sent_is_told, User),
        trial!(a_process_whose_pidfd_finds_no_room_is_ended),
        trial!(a_full_socket_loses_no_exit),
        trial!(newborns_that_do_not_run_hold_up_nobody, Freezer),
    ])
}

fn it_maps_its_own_image_and_no_library(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
        let Ok(maps) = fs::read_to_string(format!("/proc/{}/maps", host.rt.keeper_pid())) else {
            assert!(!host.root(), "root may look");
            return;
        };
        let files: std::collections::BTreeSet<&str> =
            maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        let own = |name: &&&str| {
            name.starts_with('[') || name.starts_with("/memfd:orangery-keeper") || name.starts_with("/dev/zero")
        };
        let foreign: Vec<_> = files.iter().filter(|name| !own(name)).collect();
        assert!(foreign.is_empty(), "{foreign:?} in\n{maps}");
        assert!(!files.contains("[heap]"), "an allocator: {maps}");
    });
}

fn it_is_sealed_and_hidden(scene: &Scene) {
    scene.play(async |host| {
        let pid = host.rt.keeper_pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        assert!(status.contains("Name:\torangery-keeper"), "{status}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let session: u32 = stat
            .rsplit_once(')')
            .and_then(|(_, tail)| tail.split_whitespace().nth(3))
            .and_then(|text| text.parse().ok())
            .expect("a session");
        assert_eq!(session, pid, "a session of its own");
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).map_or(0, |environ| environ.len()), 0);
        if host.root() {
            let exe = format!("/proc/{pid}/exe");
            let error = fs::OpenOptions::new().write(true).open(&exe).expect_err("sealed");
            assert!(matches!(error.raw_os_error(), Some(libc::ETXTBSY | libc::EPERM)), "{error}");
            assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd"), std::path::Path::new("/"));
        }
    });
}

/// The kernel's share: a descriptor table for the processes that there are, not for all that the limit allows.
fn its_descriptor_table_stays_small(scene: &Scene) {
    scene.play(async |host| {
        let status = fs::read_to_string(format!("/proc/{}/status", host.rt.keeper_pid())).expect("status");
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:\t")).expect("a size");
        let size: usize = size.trim().parse().expect("a number");
        assert!((256..=8192).contains(&size), "{size} descriptors of eight bytes");
    });
}

/// Private dirty memory, before and after a hundred containers.
/// The kernel gives an `oom_score_adj` to all who share a memory, and the process that comes between may share the keeper's.
fn the_score_of_a_process_is_not_its(scene: &Scene) {
    scene.play(async |host| {
        let score = |pid: u32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
        let before = score(host.rt.keeper_pid());
        let container = host.create(host.spec("score"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        let mut process = command(&["cat", "/proc/self/oom_score_adj"]);
        process.oom_score_adj = Some(1000);
        assert_eq!(outcome(container.exec(process).await.expect("exec")).await.out, "1000\n");
        assert_eq!(score(host.rt.keeper_pid()), before);
        container.delete().await.expect("deleted");
        drop(started);
    });
}

fn its_memory_stays_small(scene: &Scene) {
    let dirty = |pid: u32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("Private_Dirty:"))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
    };
    scene.play(async |host| {
        // Its image's pages are its own as long as there is nobody born of it; how many it has touched by now differs by a few.
        let Some(before) = dirty(host.rt.keeper_pid()) else { return };
        let mut kept = Vec::new();
        for n in 0..100 {
            let container = host.create(host.spec(&format!("c{n}")), probe(&["true"])).await.expect("created");
            outcome(container.start().await.expect("started")).await;
            kept.push(container);
        }
        let after = dirty(host.rt.keeper_pid()).expect("still there");
        let stub = dirty(kept[0].init_pid().cast_unsigned()).expect("a stub");
        assert!(
            before <= 120 && after <= 140 && stub <= 100,
            "KiB: keeper {before}, with 100 containers {after}, a stub {stub}"
        );
        for container in kept {
            container.delete().await.expect("deleted");
        }
    });
}

fn it_starts_from_a_file(scene: &Scene) {
    let path = scene.dir().join("keeper-program");
    for _ in 0..2 {
        let mut options = scene.options();
        options.keeper_path = Some(path.clone());
        scene.play_with(options, async |host| {
            assert_eq!(fs::read_link(format!("/proc/{}/exe", host.rt.keeper_pid())).expect("exe"), path);
            host.once(host.spec("x"), probe(&["true"])).await;
        });
    }
    // Another version is replaced, not run.
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "#!/bin/false\n").expect("another");
    let mut options = scene.options();
    options.keeper_path = Some(path);
    scene.play_with(options, async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
    });
}

/// What happens when a start fails half way, or a service drops what it was given.
fn a_driver_that_never_runs_leaves_no_keeper(scene: &Scene) {
    scene.block_on(async {
        let (rt, driver) = orangery_runtime::native::NativeRuntime::start(scene.options()).expect("a runtime");
        drop(driver);
        let until = std::time::Instant::now() + wait::PATIENCE;
        while !descendants(std::process::id()).is_empty() {
            assert!(std::time::Instant::now() < until, "{:?}", descendants(std::process::id()));
            tokio::task::yield_now().await;
        }
        wait::soon("shutdown", rt.shutdown()).await;
    });
}

fn a_wrong_keeper_path_is_told(scene: &Scene) {
    let mut options = scene.options();
    options.keeper_path = Some("/no/such/directory/keeper".into());
    let error = scene
        .block_on(async { orangery_runtime::native::NativeRuntime::start(options).map(drop) })
        .expect_err("refused");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Keeper, Some(libc::ENOENT)), "{error:?}");
    let left: Vec<_> = fs::read_dir(scene.state_dir()).map(|entries| entries.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

fn plans(scene: &Scene) -> Vec<(Vec<u8>, Vec<Purpose>)> {
    let mut plans = Vec::new();
    scene.play(async |host| {
        let mut spec = host.spec("plan");
        spec.sysctls.insert("net.ipv4.ip_forward".into(), "0".into());
        let (container, main) = host.rt.plan(spec.clone(), probe(&["true"])).expect("a plan");
        spec.without_init = true;
        let (gated, _) = host.rt.plan(spec, probe(&["true"])).expect("a plan");
        for plan in [Some(container), main, Some(gated)].into_iter().flatten() {
            assert!(wire::check(plan.bytes(), plan.needs().len()).is_ok());
            plans.push((plan.bytes().to_vec(), plan.needs().iter().map(|need| need.purpose()).collect()));
        }
    });
    plans
}

fn mutants_of_a_plan_never_panic_the_check(scene: &Scene) {
    let plans = plans(scene);
    let mut seeded = Seeded::new(1);
    let (mut accepted, mut refused) = (0u32, 0u32);
    for _ in 0..12_000 {
        let (plan, fds) = &plans[seeded.below(plans.len())];
        let mutant = seeded.mutate(plan);
        match wire::check(&mutant, fds.len()) {
            Ok(header) => {
                accepted += 1;
                // What is accepted can be walked: every string and list of every step.
                for index in 0..header.steps {
                    let step = wire::step(&mutant, index).expect("a step");
                    let _ = (
                        wire::string(&mutant, step.s),
                        wire::string(&mutant, step.t),
                        wire::list_end(&mutant, step.s, step.n.min(4096)),
                    );
                }
            }
            Err(_) => refused += 1,
        }
        let _ = Message::decode(&mutant);
        let _ = wire::read_report(&mutant);
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

fn garbage_is_refused_and_it_lives(_: &Scene) {
    let keeper = Raw::start();
    let null = fs::File::open("/dev/null").expect("null");
    let good = Message { kind: Ask::Spawn as u16, id: 5, ..Message::default() }.encode();
    let mut wrong_version = good;
    wrong_version[4] ^= 1;
    let mut wrong_kind = good;
    wrong_kind[6..8].copy_from_slice(&999u16.to_le_bytes());
    for bytes in [&[0u8][..], &[0xff; 64], &good[..MESSAGE - 1], &wrong_version, &wrong_kind, &[0; 4096], &good] {
        keeper.send(bytes, &[]);
        assert!(matches!(keeper.refused(), libc::EPROTO | libc::EINVAL), "{} bytes", bytes.len());
        keeper.send(bytes, &[null.as_fd(), null.as_fd()]);
        assert!(matches!(keeper.refused(), libc::EPROTO | libc::EINVAL), "{} bytes", bytes.len());
    }
    // More descriptors than it takes, and a message longer than its buffer.
    keeper.send(&good, &vec![null.as_fd(); 253]);
    assert_eq!(keeper.next().id, 5, "whoever asked is told");
    keeper.send(&vec![0x41; wire::MAX_INLINE + MESSAGE + 1000], &[]);
    keeper.refused();
    // A plan "in a memfd" that is no memfd, is not sealed, is empty, is too large.
    for (x, file) in [(100, "/dev/null"), (0, "/dev/null"), (u64::MAX, "/proc/self/exe"), (100, "/proc/self/exe")] {
        let head = Message { kind: Ask::Spawn as u16, id: 6, flags: 1, x, ..Message::default() };
        let file = fs::File::open(file).expect("a file");
        keeper.send(&framed(head, &[Purpose::Plan], &[]), &[file.as_fd()]);
        keeper.refused();
    }
    let head = Message { kind: Ask::Spawn as u16, id: 6, flags: 1, x: 100, ..Message::default() };
    keeper.send(&head.encode(), &[]);
    keeper.refused();
    for name in [&b""[..], b"\0", b".\0", b"..\0", b"a/b\0", b"no end", &[b'a'; 200]] {
        let head = Message { kind: Ask::Register as u16, id: 8, ..Message::default() };
        keeper.send(&framed(head, &[Purpose::TreeRoot], name), &[null.as_fd()]);
        assert_eq!(keeper.refused(), libc::EINVAL, "{name:?}");
    }
    let mut head = Message { kind: Ask::Hello as u16, id: 9, x: 1, ..Message::default() };
    keeper.send(&head.encode(), &[]);
    assert_eq!(keeper.refused(), libc::EINVAL, "durable is a later issue");
    head.x = u64::MAX;
    keeper.send(&head.encode(), &[]);
    keeper.refused();
    let head = Message { kind: Ask::Userns as u16, id: 10, ..Message::default() };
    for text in [&b""[..], b"no end", b"0 0 1\0", b"x\0y\0", b"0 0 0\x000 0 0\0"] {
        let mut bytes = head.encode().to_vec();
        bytes.extend_from_slice(text);
        keeper.send(&bytes, &[]);
        keeper.refused();
    }
    // Deadlines: a signal without a process, no signal, bytes for nobody, none for somebody, too many, no file.
    let arm = |y: u64| Message { kind: Ask::Arm as u16, id: 11, x: u64::MAX, y, ..Message::default() };
    let file = tempfile::tempfile().expect("a file");
    let (pidfd, control) = (Purpose::Pidfd, Purpose::Control);
    for (y, purpose, body) in [
        (0, pidfd, &b""[..]),
        (65, pidfd, b""),
        (u64::MAX, pidfd, b""),
        (9, pidfd, b"x"),
        (0, control, b""),
        (0, control, &[b'x'; 65]),
        (9, control, b"x"),
    ] {
        keeper.send(&framed(arm(y), &[purpose], body), &[file.as_fd()]);
        assert_eq!(keeper.refused(), libc::EINVAL, "{y} {purpose:?} {body:?}");
    }
    keeper.send(&framed(arm(0), &[control], b"x"), &[null.as_fd()]);
    assert_eq!(keeper.refused(), libc::EINVAL, "a device could block");
    // Nobody's slot, and a slot of nobody: no answer at all.
    for x in [0, 7, u64::MAX] {
        keeper.send(&Message { kind: Ask::Cancel as u16, id: 11, x, ..Message::default() }.encode(), &[]);
    }
    keeper.lives();
    keeper.end();
}

/// Mutants of real plans are refused, or run in a child that fails: the keeper itself goes on, and nothing stays.
fn hostile_plans_are_refused_and_it_lives(scene: &Scene) {
    let plans = plans(scene);
    let keeper = Raw::start();
    let mut seeded = Seeded::new(2);
    let null = fs::File::options().read(true).write(true).open("/dev/null").expect("null");
    let (mut sent, mut children) = (0, 0);
    while sent < 300 {
        let (plan, fds) = &plans[seeded.below(plans.len())];
        let mut mutant = seeded.mutate(plan);
        mutant.truncate(wire::MAX_INLINE);
        // What would be a plan that makes mounts and processes with rights stays out: only its refusal is wanted here,
        // so each one that the check accepts is made to fail at its first step.
        if wire::check(&mutant, fds.len()).is_ok() {
            let at = wire::HEADER;
            mutant[at..at + 2].copy_from_slice(&(wire::Op::SetNs as u16).to_le_bytes());
            mutant[at + 6..at + 8].copy_from_slice(&0i16.to_le_bytes());
            mutant[at + 2..at + 4].copy_from_slice(&0u16.to_le_bytes());
        }
        sent += 1;
        let head = Message { kind: Ask::Spawn as u16, id: 1000 + sent, ..Message::default() };
        keeper.send(&framed(head, fds, &mutant), &vec![null.as_fd(); fds.len()]);
        loop {
            let message = keeper.next();
            if Tell::from_u16(message.kind) == Some(Tell::Exited) {
                continue;
            }
            assert_eq!(message.id, 1000 + sent, "{message:?}");
            children += u32::from(Tell::from_u16(message.kind) == Some(Tell::Done));
            break;
        }
    }
    keeper.lives();
    assert!(children < 300);
    keeper.end();
}

fn descriptors_of_refused_requests_are_closed(_: &Scene) {
    let keeper = Raw::start();
    keeper.lives();
    let Some(before) = keeper.descriptors() else { return keeper.end() };
    let null = fs::File::open("/dev/null").expect("null");
    for kind in 0..10u16 {
        for count in [1, 2, 100, 101, 253] {
            let head = Message { kind, id: 5, x: 7, ..Message::default() };
            keeper.send(&head.encode(), &vec![null.as_fd(); count]);
            let _ = keeper.next();
        }
    }
    keeper.lives();
    // Hello may have taken one for its trace.
    let after = keeper.descriptors().expect("it is there");
    assert!(after <= before + 1, "{before} before, {after} after");
    keeper.end();
}

fn it_goes_when_the_socket_closes(_: &Scene) {
    for _ in 0..20 {
        Raw::start().end();
    }
}

/// A host that waits for any child, as shells and old daemons do, takes nothing from us but the keeper's own end.
fn a_host_that_reaps_everything(scene: &Scene) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let mut reaper = None;
    scene.play(async |host| {
        reaper = Some(std::thread::spawn(|| {
            let mut taken = 0;
            while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok_and(|ended| ended.is_some()) {
                taken += 1;
            }
            taken
        }));
        for n in 0..20 {
            assert_eq!(host.once(host.spec(&format!("c{n}")), probe(&["exit", "3"])).await.code(), 3);
        }
    });
    // The driver may be quicker.
    assert!(reaper.expect("a reaper").join().expect("no panic") <= 1, "more than the keeper was the host's child");
}

#[expect(clippy::disallowed_methods, reason = "a host with another signal disposition is another process")]
fn a_host_that_ignores_its_children(scene: &Scene) {
    const ROLE: &str = "ORANGERY_TEST_IGNORES";
    if std::env::var_os(ROLE).is_some() {
        return scene.play(async |host| {
            let status = fs::read_to_string("/proc/self/status").expect("status");
            let ignored = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:\t"))
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .unwrap_or(0);
            assert!(ignored & 1 << 16 != 0, "SIGCHLD is not ignored: {status}");
            for n in 0..10 {
                let outcome = host.once(host.spec(&format!("c{n}")), probe(&["exit", "3"])).await;
                assert_eq!(outcome.code(), 3);
                assert!(outcome.exit.rusage.is_some());
                let seen = host.see(&[], |_, _| ()).await;
                assert_eq!(seen["status"]["SigIgn"], "0000000000001000", "inherited");
            }
        });
    }
    // env(1) hands ignored signals on.
    let mut child = std::process::Command::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(std::env::current_exe().expect("us"))
        .env(ROLE, "1")
        .spawn()
        .expect("started");
    let status = wait::child(&mut child, 6 * wait::PATIENCE).expect("waited").expect("in time");
    assert!(status.success(), "{status:?}");
}

/// Signals blocked, a small descriptor limit, an odd umask: none of it reaches the command, all of it is given back.
fn a_host_with_blocked_signals_and_odd_limits(scene: &Scene) {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _alone = alone_with_descriptors();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).expect("blocked");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: hard }).expect("lowered");
    scene.play(async |host| {
        let seen = host.see(&["/tmp", "/etc/passwd"], |_, _| ()).await;
        assert_eq!((&seen["status"]["SigBlk"], &seen["status"]["Umask"]), (&"0000000000000000".into(), &"0022".into()));
        assert_eq!(seen["paths"]["/tmp"]["mode"], "1777");
        let limit = seen["limits"]
            .as_array()
            .expect("limits")
            .iter()
            .filter_map(|line| line.as_str())
            .find(|line| line.starts_with("Max open files"))
            .expect("a limit")
            .to_owned();
        assert_eq!(limit.split_whitespace().nth(3), Some("300"), "{limit}");
    });
}

fn limit_descriptors(most: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).expect("lowered");
}

/// A hard limit of 1024, as some services are given.
fn a_host_with_few_descriptors(scene: &Scene) {
    limit_descriptors(1024);
    scene.play(async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
    });
}

/// What the keeper says before it can serve arrives.
fn too_few_descriptors_are_told(scene: &Scene) {
    let _alone = alone_with_descriptors();
    limit_descriptors(300);
    let error = scene
        .block_on(async { orangery_runtime::native::NativeRuntime::start(scene.options()).map(drop) })
        .expect_err("refused");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exhausted, Some(libc::EMFILE)), "{error:?}");
    assert!(error.to_string().contains("300"), "{error}");
}

/// The kernel counts the descriptors of a user that are on their way: who has many there and who may have few only are not
/// at work at the same time.
fn alone_with_descriptors() -> fs::File {
    let own = std::env::current_exe().and_then(fs::File::open).expect("this program");
    own.lock().expect("locked");
    own
}

/// More descriptors of this user are on their way than its limit: the kernel refuses to send another (ETOOMANYREFS).
fn an_answer_that_cannot_be_sent_is_told(_: &Scene) {
    let _alone = alone_with_descriptors();
    let null = fs::File::open("/dev/null").expect("null");
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let (one, other) =
        rustix::net::socketpair(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, flags, None)
            .expect("a pair");
    let on_their_way = |count: usize| {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = vec![null.as_fd(); count];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [std::io::IoSlice::new(b"x")];
        rustix::net::sendmsg(&one, &bytes, &mut control, rustix::net::SendFlags::empty())
    };
    // Ours alone are more than will be allowed: those of other trials arrive meanwhile.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let all = rustix::process::Rlimit { current: most, maximum: most };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).expect("raised");
    for _ in 0..3 {
        on_their_way(200).expect("below the limit that we were given");
    }
    limit_descriptors(400);
    let keeper = Raw::start();
    let head = Message { kind: Ask::Userns as u16, id: 12, x: 1, ..Message::default() };
    keeper.send(&[&head.encode()[..], b"0 0 1\x000 0 1\0"].concat(), &[]);
    let message = keeper.next();
    assert_eq!((Tell::from_u16(message.kind), message.id), (Some(Tell::Failed), 12));
    assert_eq!(message.errno, libc::ETOOMANYREFS);
    drop((one, other));
    keeper.lives();
    keeper.end();
}

/// The service's descriptor table is full at the moment when the keeper answers.
fn a_process_whose_pidfd_finds_no_room_is_ended(scene: &Scene) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _alone = alone_with_descriptors();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum }).expect("lowered");
    // One thread for everything: while we look, nobody listens to the keeper.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    tokio.block_on(async {
        let (rt, driver) = orangery_runtime::native::NativeRuntime::start(scene.options()).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        let container = host.create(host.spec("full"), probe(&["true"])).await.expect("created");
        let children =
            || descendants(host.rt.keeper_pid()).into_iter().filter(|process| process.name == "probe").count();
        let mut exec = container.exec(probe(&["deaf"]));
        let until = std::time::Instant::now() + wait::PATIENCE;
        let taken = std::future::poll_fn(|cx| {
            while children() == 0 {
                assert!(exec.as_mut().poll(cx).is_pending(), "nobody has heard the answer");
                assert!(std::time::Instant::now() < until, "it does not start");
            }
            let nulls = std::iter::from_fn(|| fs::File::open("/dev/null").ok());
            std::task::Poll::Ready(nulls.collect::<Vec<_>>())
        });
        let taken = taken.await;
        let error = wait::soon("an answer", exec).await.expect_err("no room");
        drop(taken);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exhausted, Some(libc::EMFILE)), "{error:?}");
        while children() > 0 {
            assert!(std::time::Instant::now() < until, "it lives on, or nobody reaps it");
            tokio::task::yield_now().await;
        }
        container.delete().await.expect("deleted");
        host.rt.shutdown().await;
        driver.await.expect("no panic");
    });
}

/// Nobody reads the exits for a while: zombies are the queue, and all arrive.
fn a_full_socket_loses_no_exit(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("many"), probe(&["true"])).await.expect("created");
        let mut waiting = Vec::new();
        for _ in 0..300 {
            let mut main = probe(&["exit", "9"]);
            main.stdout = orangery_runtime::spec::Stdio::Null;
            main.stderr = orangery_runtime::spec::Stdio::Null;
            waiting.push(container.exec(main).await.expect("exec"));
        }
        for started in waiting {
            let exit = wait::soon("an exit", started.exit).await.expect("told");
            assert_eq!(exit.status, ExitStatus::Code(9));
        }
        container.delete().await.expect("deleted");
        host.rt.shutdown().await;
    });
}

/// Processes are born into a frozen group (out of CPU time would be the same): other requests go on, and each of the
/// newborns is what it should be when it runs at last.
fn newborns_that_do_not_run_hold_up_nobody(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("cold"), probe(&["true"])).await.expect("created");
        let Some(cold) = Cold::of(scene, "cold") else { return container.delete().await.expect("deleted") };
        cold.freeze(true);
        let (held, mut execs) = (16, tokio::task::JoinSet::new());
        for _ in 0..held {
            execs.spawn(container.exec(see(&[])));
        }
        // Its init and all newborns: none of them waits for the one before it.
        cold.holds(1 + held).await;
        // Everything that a request can be, meanwhile.
        host.once(host.spec("warm"), probe(&["true"])).await;
        cold.freeze(false);
        while let Some(started) = wait::soon("an exec", execs.join_next()).await {
            let seen = outcome(started.expect("no panic").expect("exec")).await.json();
            let fds: Vec<_> = seen["fds"].as_object().expect("fds").keys().collect();
            assert_eq!(fds, ["0", "1", "2"], "{}", seen["fds"]);
        }
        host.once(host.spec("after"), probe(&["true"])).await;
        container.delete().await.expect("deleted");
    });
}
