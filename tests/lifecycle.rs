//! One container and its processes: how they start, what they are given, how they end.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::ffi::OsString;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use orangery_runtime::spec::{Resource, Rlimit, StagedFile, Stdio, User, UserNamespace};
use orangery_runtime::{Container, ErrorKind, ExitStatus, Runtime as _, Started};
use orangery_tests::host::{Host, command, outcome, probe, see};
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Scene, trial};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(codes_and_signals_are_true),
        trial!(without_init_codes_and_most_signals_are_true),
        trial!(a_missing_command_is_told_and_leaves_the_container_usable),
        trial!(a_command_that_cannot_be_executed_is_told),
        trial!(a_missing_command_without_init_is_told),
        trial!(exactly_three_descriptors),
        trial!(nothing_runs_before_start),
        trial!(nothing_runs_before_start_without_init),
        trial!(start_is_once),
        trial!(several_processes_in_one_container),
        trial!(exec_after_the_main_process_has_ended),
        trial!(exec_after_the_end_is_refused),
        trial!(standard_streams_are_pipes_byte_for_byte),
        trial!(standard_streams_may_be_files),
        trial!(large_arguments_travel_by_memfd),
        trial!(the_environment_is_exactly_what_was_given),
        trial!(preserved_descriptors_get_the_next_numbers),
        trial!(files_are_staged),
        trial!(root_by_default),
        trial!(a_user_by_number),
        trial!(a_user_and_groups_by_number, ManyIds),
        trial!(a_user_by_name_from_the_image, Busybox, ManyIds),
        trial!(the_working_directory),
        trial!(a_missing_working_directory_is_told),
        trial!(the_umask),
        trial!(a_host_whose_umask_takes_everything),
        trial!(resource_limits),
        trial!(few_descriptors_beside_preserved_ones),
        trial!(a_hard_limit_is_raised, Root),
        trial!(host_name),
        trial!(kernel_parameters),
        trial!(a_session_and_clean_signals),
        trial!(the_oom_score_without_init),
        trial!(an_orphan_is_reaped_by_the_stub),
        trial!(a_traced_end_is_told_when_the_tracer_goes),
        trial!(a_traced_end_does_not_hold_up_the_kill),
        trial!(kill_reaches_a_process_that_ignores_everything),
        trial!(a_signal_is_felt),
        trial!(the_id_is_taken_while_the_container_lives),
        trial!(delete_twice_and_shutdown_twice),
        trial!(dropping_a_container_kills_it),
        trial!(two_supervisors_side_by_side),
        trial!(rusage_is_told),
        trial!(many_at_once),
    ])
}

fn codes_and_signals_are_true(scene: &Scene) {
    scene.play(async |host| {
        for (args, status) in [
            (&["true"][..], ExitStatus::Code(0)),
            (&["exit", "7"], ExitStatus::Code(7)),
            (&["exit", "255"], ExitStatus::Code(255)),
            (&["raise", "9"], ExitStatus::Signal { signal: 9, core_dumped: false }),
            (&["raise", "15"], ExitStatus::Signal { signal: 15, core_dumped: false }),
            (&["raise", "2"], ExitStatus::Signal { signal: 2, core_dumped: false }),
        ] {
            let outcome = host.once(host.spec("ends"), probe(args)).await;
            assert_eq!((outcome.exit.status, outcome.out.as_str()), (status, ""), "{args:?}");
        }
        let outcome = host.once(host.spec("false"), command(&["false"])).await;
        assert_eq!(outcome.code(), 1);
    });
}

fn without_init_codes_and_most_signals_are_true(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("pid1");
        spec.without_init = true;
        assert_eq!(host.once(spec.clone(), probe(&["exit", "7"])).await.code(), 7);
        assert_eq!(host.once(spec.clone(), see(&[])).await.json()["pid"], 1);
        // The kernel does not let a namespace's init kill itself: decisions.md says so, and here it is.
        assert_eq!(host.once(spec, probe(&["raise", "9"])).await.out, "survived\n");
    });
}

fn a_missing_command_is_told_and_leaves_the_container_usable(scene: &Scene) {
    scene.play(async |host| {
        for name in ["orangery-no-such-command", "/no/such/command", "/etc/passwd/x"] {
            let container = host.create(host.spec("missing"), command(&[name])).await.expect("created");
            let error = container.start().await.expect_err("nothing to run");
            assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error:?}");
            assert_eq!(error.field(), Some("argv[0]"), "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
            let started = container.exec(probe(&["exit", "3"])).await.expect("the container is alive");
            assert_eq!(outcome(started).await.code(), 3);
            container.delete().await.expect("deleted");
        }
    });
}

fn a_command_that_cannot_be_executed_is_told(scene: &Scene) {
    scene.play(async |host| {
        for (path, mode, content) in [
            ("/tmp/plain", 0o644, &b"#!/bin/sh\n"[..]),
            ("/tmp/garbage", 0o755, b"\x7fELF, but no more"),
            ("/tmp/dir", 0, b""),
        ] {
            let mut spec = host.spec("refuses");
            if mode != 0 {
                spec.files.push(StagedFile { path: path.into(), content: content.into(), mode });
            }
            let path = if mode == 0 { "/tmp" } else { path };
            let container = host.create(spec, command(&[path])).await.expect("created");
            let error = container.start().await.expect_err("cannot run");
            assert_eq!(error.kind(), ErrorKind::CommandNotExecutable, "{error:?}");
            container.delete().await.expect("deleted");
        }
    });
}

fn a_missing_command_without_init_is_told(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("missing");
        spec.without_init = true;
        let container = host.create(spec, command(&["orangery-no-such-command"])).await.expect("created");
        let error = container.start().await.expect_err("nothing to run");
        assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error:?}");
        container.delete().await.expect("deleted");
    });
}

fn exactly_three_descriptors(scene: &Scene) {
    // A descriptor that the service forgot to make cloexec must not reach anybody.
    let inheritable = std::fs::File::open("/etc/passwd").expect("open");
    rustix::io::fcntl_setfd(&inheritable, rustix::io::FdFlags::empty()).expect("inheritable");
    scene.play(async |host| {
        let check = |seen: serde_json::Value| {
            let fds: Vec<String> = seen["fds"].as_object().expect("fds").keys().cloned().collect();
            assert_eq!(fds, ["0", "1", "2"], "{}", seen["fds"]);
            assert_eq!(seen["fds"]["0"], "/dev/null");
        };
        check(host.see(&[], |_, _| ()).await);
        check(host.see(&[], |spec, _| spec.without_init = true).await);
        let container = host.create(host.spec("exec"), see(&[])).await.expect("created");
        let started = container.exec(see(&[])).await.expect("exec");
        check(outcome(started).await.json());
        container.delete().await.expect("deleted");
    });
}

fn nothing_runs_before_start(scene: &Scene) {
    gate(scene, false);
}

fn nothing_runs_before_start_without_init(scene: &Scene) {
    gate(scene, true);
}

/// A created container shows its pid 1 and no trace of the command; deleted without a start, the command never ran.
fn gate(scene: &Scene, without_init: bool) {
    scene.play(async |host| {
        let mut spec = host.spec("gate");
        spec.without_init = without_init;
        let container = host.create(spec.clone(), probe(&["both", "ran", ""])).await.expect("created");
        let name = orangery_tests::stock::process(container.init_pid().cast_unsigned()).expect("pid 1").name;
        assert_eq!(name, if without_init { "orangery-keeper" } else { "orangery-init" });
        let started = container.start().await.expect("started");
        assert_eq!(outcome(started).await.out, "ran\n");
        container.delete().await.expect("deleted");

        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let mut main = probe(&["both", "ran", ""]);
        main.stdout = Stdio::Fd(Arc::new(write));
        let container = host.create(spec, main).await.expect("created");
        container.delete().await.expect("deleted");
        drop(container);
        assert_eq!(wait::soon("the end of the pipe", wait::all(read)).await, "");
    });
}

fn start_is_once(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("once"), probe(&["true"])).await.expect("created");
        let started = container.start().await.expect("started");
        assert_eq!(container.start().await.expect_err("twice").kind(), ErrorKind::State);
        outcome(started).await;
        container.delete().await.expect("deleted");
        assert_eq!(container.start().await.expect_err("deleted").kind(), ErrorKind::State);
    });
}

fn several_processes_in_one_container(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("several"), see(&[])).await.expect("created");
        let mut all = vec![container.start().await.expect("started")];
        for _ in 0..9 {
            all.push(container.exec(see(&[])).await.expect("exec"));
        }
        let mut pids = std::collections::BTreeSet::new();
        let mut namespaces = std::collections::BTreeSet::new();
        for started in all {
            let seen = outcome(started).await.json();
            pids.insert(seen["pid"].as_u64());
            namespaces.insert(seen["ns"].to_string());
            assert_eq!(seen["status"]["PPid"], "0", "the keeper is its parent, from outside");
        }
        assert_eq!((pids.len(), namespaces.len()), (10, 1), "{namespaces:?}");
        container.delete().await.expect("deleted");
    });
}

fn exec_after_the_main_process_has_ended(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("main-gone"), probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let started = container.exec(probe(&["exit", "4"])).await.expect("the stub keeps it alive");
        assert_eq!(outcome(started).await.code(), 4);
        // Every refusal is told, as at a creation.
        let mut wrong = probe(&["true"]);
        (wrong.cwd, wrong.umask) = (Some("relative".into()), Some(0o7777));
        let error = container.exec(wrong).await.expect_err("refused");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("cwd")), "{error}");
        assert!(error.to_string().contains("umask: more"), "{error}");
        container.delete().await.expect("deleted");
    });
}

fn exec_after_the_end_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("gone"), probe(&["true"])).await.expect("created");
        container.kill().expect("killed");
        // Killed, not yet finished: setns into the dead.
        let error = container.exec(probe(&["true"])).await.err();
        if let Some(error) = error {
            // An ordinary user's keeper is told EPERM by the kernel, for a namespace whose init has no memory any more: B5.
            assert!(
                matches!(error.kind(), ErrorKind::State | ErrorKind::Creation | ErrorKind::Permission),
                "{error:?}"
            );
        }
        container.finish().await;
        assert_eq!(container.exec(probe(&["true"])).await.expect_err("ended").kind(), ErrorKind::State);
        assert_eq!(container.root().expect_err("ended").kind(), ErrorKind::State);
        container.delete().await.expect("deleted");
    });
}

fn standard_streams_are_pipes_byte_for_byte(scene: &Scene) {
    scene.play(async |host| {
        let bytes: Vec<u8> = (0..1_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("cat"), main).await.expect("created");
        let mut started = container.start().await.expect("started");
        let stdin = std::fs::File::from(started.stdin.take().expect("stdin"));
        let stdout = std::fs::File::from(started.stdout.take().expect("stdout"));
        let sent = bytes.clone();
        let writer = tokio::task::spawn_blocking(move || { &stdin }.write_all(&sent));
        let reader = tokio::task::spawn_blocking(move || {
            let mut got = Vec::new();
            std::io::Read::read_to_end(&mut { &stdout }, &mut got).map(|_| got)
        });
        writer.await.expect("no panic").expect("written");
        assert!(reader.await.expect("no panic").expect("read") == bytes, "not the same bytes");
        assert_eq!(outcome(started).await.code(), 0);
        container.delete().await.expect("deleted");

        let outcome = host.once(host.spec("both"), probe(&["both", "out", "err"])).await;
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\n", "err\n"));
    });
}

fn standard_streams_may_be_files(scene: &Scene) {
    let input = scene.dir().join("input");
    std::fs::write(&input, "from a file").expect("input");
    let output = std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(scene.dir().join("output"))
        .expect("output");
    scene.play(async |host| {
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Fd(Arc::new(std::fs::File::open(&input).expect("open").into()));
        main.stdout = Stdio::Fd(Arc::new(output.try_clone().expect("dup").into()));
        assert_eq!(host.once(host.spec("files"), main).await.code(), 0);
    });
    drop(output);
    assert_eq!(std::fs::read_to_string(scene.dir().join("output")).expect("read"), "from a file");
}

fn large_arguments_travel_by_memfd(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["size"]);
        main.argv.extend((0..9).map(|_| OsString::from("a".repeat(100_000))));
        main.env =
            (0..100).map(|n| (OsString::from(format!("VARIABLE_{n}")), OsString::from("v".repeat(5_000)))).collect();
        let argv: usize = main.argv.iter().map(|arg| arg.len()).sum();
        let env: usize = main.env.iter().map(|(key, value)| key.len() + value.len() + 1).sum();
        for without_init in [false, true] {
            let mut spec = host.spec("large");
            spec.without_init = without_init;
            let sizes = host.once(spec, main.clone()).await.json();
            assert_eq!((sizes["argv"].as_u64(), sizes["env"].as_u64()), (Some(argv as u64), Some(env as u64)));
            assert_eq!((sizes["argc"].as_u64(), sizes["envc"].as_u64()), (Some(11), Some(100)));
        }
        // At the edge of what travels inside the message.
        for len in [55_000, 60_000, 61_000, 62_000, 63_000, 64_000, 65_000, 66_000] {
            let mut main = probe(&["size"]);
            main.argv.push("a".repeat(len).into());
            assert_eq!(host.once(host.spec("edge"), main).await.json()["argv"], len + "/probe".len() + "size".len());
        }
    });
}

fn the_environment_is_exactly_what_was_given(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(host.see(&[], |_, _| ()).await["env"], serde_json::json!([]));
        let seen = host
            .see(&[], |_, main| main.env = vec![("A".into(), "1 = \"x\"\n".into()), ("EMPTY".into(), "".into())])
            .await;
        assert_eq!(seen["env"], serde_json::json!(["A=1 = \"x\"\n", "EMPTY="]));
    });
}

fn preserved_descriptors_get_the_next_numbers(scene: &Scene) {
    let file = |text: &str| -> Arc<OwnedFd> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file.rewind().expect("rewound");
        Arc::new(file.into())
    };
    scene.play(async |host| {
        for (number, text) in [("3", "three"), ("4", "four"), ("18", "eighteen")] {
            for without_init in [false, true] {
                let (mut spec, mut main) = (host.spec("preserved"), probe(&["read-fd", number]));
                spec.without_init = without_init;
                main.preserved = vec![file("three"), file("four")];
                main.preserved.extend((5..18).map(|_| file("")));
                main.preserved.push(file("eighteen"));
                assert_eq!(host.once(spec, main).await.out, format!("\"{text}\"\n"));
            }
        }
        // As many as there may be, and the last of them.
        let all: Vec<_> = (0..200).map(|_| file("")).collect();
        let (spec, mut main) = (host.spec("many"), probe(&["read-fd", "202"]));
        main.preserved = all.iter().take(199).cloned().chain([file("last")]).collect();
        assert_eq!(host.once(spec, main).await.out, "\"last\"\n");
        let (spec, mut main) = (host.spec("more"), probe(&["read-fd", "202"]));
        main.preserved = all.iter().cloned().chain([file("one more")]).collect();
        let refused = host.refused(spec, main).await;
        assert!(refused.to_string().contains("201 descriptors are preserved; 200 are possible"), "{refused}");
        let fds = host.see(&[], |_, main| main.preserved = vec![file("x")]).await["fds"].clone();
        assert_eq!(fds.as_object().expect("fds").len(), 4, "{fds}");
    });
}

fn files_are_staged(scene: &Scene) {
    scene.play(async |host| {
        let paths = ["/tmp/a/b/c", "/run/x", "/in/deep/source.c", "/home/user/y", "/etc/own.conf"];
        let seen = host
            .see(&paths, |spec, _| {
                for (index, path) in paths.iter().enumerate() {
                    let content = format!("content {index}").into_bytes();
                    spec.files.push(StagedFile { path: path.into(), content: content.into(), mode: 0o640 });
                }
            })
            .await;
        for (index, path) in paths.iter().enumerate() {
            assert_eq!(seen["paths"][path]["content"], format!("content {index}"), "{path}: {}", seen["paths"]);
            assert_eq!(
                (&seen["paths"][path]["mode"], &seen["paths"][path]["uid"]),
                (&"640".into(), &0.into()),
                "{path}"
            );
        }
    });
}

fn root_by_default(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        assert_eq!((&seen["status"]["Uid"], &seen["status"]["Gid"]), (&"0\t0\t0\t0".into(), &"0\t0\t0\t0".into()));
        let groups = seen["status"]["Groups"].as_str().expect("groups");
        assert!(host.root() && groups.is_empty() || !host.root(), "{groups}");
        assert!(groups.split_whitespace().all(|group| group == "65534" || group == "0"), "{groups}");
    });
}

fn a_user_by_number(scene: &Scene) {
    scene.play(async |host| {
        for user in [User::Ids { uid: 1234, gid: 4321 }, User::Name("1234:4321".into())] {
            let seen = host.see(&["/home/user"], |_, main| main.user = user).await;
            assert_eq!(seen["status"]["Uid"], "1234\t1234\t1234\t1234");
            assert_eq!(seen["status"]["Gid"], "4321\t4321\t4321\t4321");
            assert_eq!(seen["paths"]["/home/user"]["uid"], 1234);
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(seen["status"][set], "0000000000000000", "{set}");
            }
        }
    });
}

fn a_user_and_groups_by_number(scene: &Scene) {
    scene.play(async |host| {
        let seen = host
            .see(&[], |_, main| {
                main.user = User::Ids { uid: 5, gid: 6 };
                main.groups = vec![7, 8];
            })
            .await;
        assert_eq!(seen["status"]["Groups"], "7 8");
    });
}

fn a_user_by_name_from_the_image(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let root = orangery_runtime::spec::Rootfs::Dir {
            path: image.clone(),
            access: orangery_runtime::spec::Access::ReadOnly,
        };
        let ids = async |user: &str| {
            let mut spec = host.spec("named");
            spec.rootfs = root.clone();
            spec.mounts.clear();
            let mut main = see(&[]);
            main.user = User::Name(user.into());
            let status = host.once(spec, main).await.json()["status"].clone();
            [status["Uid"].clone(), status["Gid"].clone(), status["Groups"].clone()]
        };
        assert_eq!(ids("builder").await, ["1234\t1234\t1234\t1234", "4321\t4321\t4321\t4321", "77"]);
        assert_eq!(ids("builder:makers").await, ["1234\t1234\t1234\t1234", "77\t77\t77\t77", ""]);
        let mut spec = host.spec("named");
        spec.rootfs = root.clone();
        let mut main = see(&[]);
        main.user = User::Name("nobody-of-this-name".into());
        let errors = host.refused(spec, main).await;
        assert_eq!(errors.0[0].field(), Some("user"), "{errors}");
    });
}

fn the_working_directory(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(host.see(&[], |_, _| ()).await["cwd"], "/");
        assert_eq!(host.see(&[], |_, main| main.cwd = Some("/usr/bin".into())).await["cwd"], "/usr/bin");
        // A leaked descriptor of the host must not be a way to a directory outside (CVE-2024-21626).
        for number in 3..20 {
            let mut main = see(&[]);
            main.cwd = Some(format!("/proc/self/fd/{number}").into());
            let container = host.create(host.spec("leaky"), main).await.expect("created");
            assert!(container.start().await.is_err(), "descriptor {number} was a working directory");
            container.delete().await.expect("deleted");
        }
    });
}

fn a_missing_working_directory_is_told(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["true"]);
        main.cwd = Some("/no/such/directory".into());
        let container = host.create(host.spec("cwd"), main).await.expect("created");
        let error = container.start().await.expect_err("no such directory");
        assert_eq!((error.field(), error.errno()), (Some("cwd"), Some(libc::ENOENT)), "{error:?}");
        container.delete().await.expect("deleted");
    });
}

/// What we make on the host has its own modes; the state directory is swept by the next start all the same.
fn a_host_whose_umask_takes_everything(scene: &Scene) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
    let mut options = scene.options();
    let state = scene.dir().join("made/below");
    options.state_dir = Some(state.clone());
    options.keeper_path = Some(scene.dir().join("keeper"));
    scene.play_with(options, async |host| {
        let container = host.create(host.spec("u"), probe(&["true"])).await.expect("created");
        let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o7777;
        let groups = scene.cgroups();
        assert!(!host.root() || groups.iter().any(|group| group.ends_with("u")), "{groups:?}");
        for group in groups {
            assert_eq!(mode(&group), 0o755, "{}", group.display());
        }
        let instance =
            std::fs::read_dir(&state).expect("a directory").next().expect("an instance").expect("one").path();
        assert_eq!((mode(&state), mode(&instance), mode(&instance.join("record"))), (0o700, 0o700, 0o600));
        assert_eq!(mode(&scene.dir().join("keeper")), 0o755);
        assert_eq!(outcome(container.start().await.expect("started")).await.code(), 0);
        container.delete().await.expect("deleted");
    });
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

fn the_umask(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(host.see(&[], |_, _| ()).await["status"]["Umask"], "0022");
        assert_eq!(host.see(&[], |_, main| main.umask = Some(0o077)).await["status"]["Umask"], "0077");
    });
}

fn resource_limits(scene: &Scene) {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        // The keeper raises its own; a process gets the caller's back.
        assert_eq!(limit_of(&seen, "Max open files")[0], own.current.map_or("unlimited".into(), |n| n.to_string()));
        let seen = host
            .see(&[], |_, main| {
                main.rlimits = vec![
                    Rlimit::new(Resource::Nofile, 100, 200).expect("a limit"),
                    Rlimit::new(Resource::Core, 0, 0).expect("a limit"),
                    Rlimit::new(Resource::Fsize, 1 << 20, 1 << 21).expect("a limit"),
                ];
            })
            .await;
        assert_eq!(limit_of(&seen, "Max open files"), ["100", "200"]);
        assert_eq!(limit_of(&seen, "Max core file size"), ["0", "0"]);
        assert_eq!(limit_of(&seen, "Max file size"), ["1048576", "2097152"]);
    });
}

fn limit_of(seen: &serde_json::Value, name: &str) -> Vec<String> {
    let lines = seen["limits"].as_array().expect("limits");
    let line = lines.iter().filter_map(|line| line.as_str()).find_map(|line| line.strip_prefix(name)).expect("a limit");
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

fn few_descriptors_beside_preserved_ones(scene: &Scene) {
    // Neither has the service itself more than the keeper needs.
    let few = rustix::process::Rlimit { current: Some(400), maximum: Some(400) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).expect("a limit of our own");
    scene.play(async |host| {
        for without_init in [false, true] {
            let seen = host
                .see(&[], |spec, main| {
                    spec.without_init = without_init;
                    main.preserved.push(Arc::new(std::fs::File::open("/dev/null").expect("null").into()));
                    main.rlimits = vec![Rlimit::new(Resource::Nofile, 16, 32).expect("a limit")];
                })
                .await;
            assert_eq!(limit_of(&seen, "Max open files"), ["16", "32"]);
            assert_eq!(seen["fds"].as_object().expect("fds").len(), 4, "{}", seen["fds"]);
        }
    });
}

/// With CAP_SYS_RESOURCE what is above our own hard limit is allowed, and so it must work.
fn a_hard_limit_is_raised(scene: &Scene) {
    use rustix::process::{Resource as Theirs, Rlimit as Limit, setrlimit};
    let of = |n: u64| Limit { current: Some(n), maximum: Some(n) };
    setrlimit(Theirs::Core, of(1000)).expect("a limit of our own");
    setrlimit(Theirs::Nofile, of(4096)).expect("a limit of our own");
    let may = setrlimit(Theirs::Core, of(1001)).is_ok();
    scene.play(async |host| {
        let limits = || {
            vec![
                Rlimit::new(Resource::Core, 1500, 2000).expect("a limit"),
                Rlimit::new(Resource::Nofile, 64, 5000).expect("a limit"),
            ]
        };
        for ids in [UserNamespace::Own, UserNamespace::Host].into_iter().filter(|_| may) {
            let seen = host
                .see(&[], |spec, main| {
                    spec.user_namespace = ids;
                    main.rlimits = limits();
                })
                .await;
            assert_eq!(limit_of(&seen, "Max core file size"), ["1500", "2000"], "{ids:?}");
            assert_eq!(limit_of(&seen, "Max open files"), ["64", "5000"], "{ids:?}");
        }
        // Born into its user namespace, the command has nobody who could; neither has a root without that capability.
        let (mut spec, mut main) = (host.spec("first"), probe(&["true"]));
        spec.without_init = true;
        main.rlimits = limits();
        let errors = host.refused(spec, main).await;
        let fields: Vec<_> = errors.0.iter().map(|error| (error.kind(), error.field())).collect();
        let refused = |field| (ErrorKind::Invalid, Some(field));
        assert_eq!(fields, [refused("rlimits[0]"), refused("rlimits[1]")], "{errors:?}");
    });
}

fn host_name(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(host.see(&[], |_, _| ()).await["hostname"], "see");
        let seen = host.see(&["/etc/hostname"], |spec, _| spec.hostname = Some("pomelo.example".into())).await;
        assert_eq!(
            (&seen["hostname"], &seen["paths"]["/etc/hostname"]["content"]),
            (&"pomelo.example".into(), &"pomelo.example\n".into())
        );
    });
}

fn kernel_parameters(scene: &Scene) {
    scene.play(async |host| {
        let paths = [
            "/proc/sys/net/ipv4/ip_default_ttl",
            "/proc/sys/kernel/shm_rmid_forced",
            "/proc/sys/net/ipv4/ping_group_range",
        ];
        let seen = host
            .see(&paths, |spec, _| {
                spec.sysctls.insert("net.ipv4.ip_default_ttl".into(), "77".into());
                spec.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
            })
            .await;
        assert_eq!(seen["paths"][paths[0]]["content"], "77\n");
        assert_eq!(seen["paths"][paths[1]]["content"], "1\n");
        for (key, value) in [
            ("kernel.core_pattern", "|/x"),
            ("vm.swappiness", "1"),
            ("net.x\ny", "1"),
            ("net/../kernel", "1"),
            ("net.ipv4.ip_forward", "1\n2"),
        ] {
            let mut spec = host.spec("refused");
            spec.sysctls.insert(key.into(), value.into());
            assert_eq!(host.refused(spec, probe(&["true"])).await.0[0].field(), Some("sysctls"), "{key:?}");
        }
    });
}

fn a_session_and_clean_signals(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let seen = host.see(&[], |spec, _| spec.without_init = without_init).await;
            assert_eq!(seen["sid"], seen["pid"], "its own session");
            for mask in ["SigBlk", "SigPnd", "ShdPnd"] {
                assert_eq!(seen["status"][mask], "0000000000000000", "{mask}");
            }
            // The probe's own runtime ignores SIGPIPE (13).
            assert_eq!(seen["status"]["SigIgn"], "0000000000001000");
            assert_eq!(
                seen["oom_score_adj"],
                std::fs::read_to_string("/proc/self/oom_score_adj").expect("ours").trim()
            );
        }
        let seen = host.see(&[], |_, main| main.oom_score_adj = Some(500)).await;
        assert_eq!(seen["oom_score_adj"], "500");
    });
}

fn the_oom_score_without_init(scene: &Scene) {
    scene.play(async |host| {
        let seen = host
            .see(&[], |spec, main| {
                spec.without_init = true;
                main.oom_score_adj = Some(500);
            })
            .await;
        assert_eq!(seen["oom_score_adj"], "500");
    });
}

fn an_orphan_is_reaped_by_the_stub(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("orphan"), probe(&["orphan"])).await.expect("created");
        assert_eq!(outcome(container.start().await.expect("started")).await.out, "left\n");
        let init = container.init_pid().cast_unsigned();
        // The one between them is dead, and reaped or about to be.
        let mut children = orangery_tests::stock::descendants(init);
        children.retain(|process| process.state != 'Z');
        assert_eq!(children.len(), 1, "the grandchild belongs to pid 1 now: {children:?}");
        let pidfd = wait::pidfd(children[0].pid);
        wait::kill(&pidfd);
        wait::gone(&pidfd, "the grandchild");
        container.delete().await.expect("deleted");
    });
}

/// A main process that has ended with 7 while a child of its own traces it, as a debugger would. The keeper has seen the
/// end, and was told that nobody is there to be waited for.
async fn traced(host: &Host, name: &str) -> (Box<dyn Container>, Started) {
    let mut main = probe(&["traced", "7"]);
    main.stdin = Stdio::Piped;
    let container = host.create(host.spec(name), main).await.expect("created");
    let mut started = container.start().await.expect("started");
    let mut out = Lines::of(started.stdout.take().expect("stdout"));
    assert_eq!(out.next().await, r#"{"errno":0}"#, "it may trace");
    wait::gone(&*started.pidfd, "the main process");
    // A round trip through the keeper, behind its wake-up for the main process.
    let other = container.exec(probe(&["true"])).await.expect("exec");
    assert_eq!(outcome(other).await.exit.status, ExitStatus::Code(0));
    assert!(started.exit.try_recv().is_err(), "told before it could be waited for");
    (container, started)
}

fn a_traced_end_is_told_when_the_tracer_goes(scene: &Scene) {
    scene.play(async |host| {
        let (container, mut started) = traced(host, "traced").await;
        drop(started.stdin.take());
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Code(7));
        wait::soon("finish", container.finish()).await;
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}

fn a_traced_end_does_not_hold_up_the_kill(scene: &Scene) {
    scene.play(async |host| {
        let (container, started) = traced(host, "killed").await;
        container.kill().expect("killed");
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Code(7));
        wait::soon("finish", container.finish()).await;
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}

fn kill_reaches_a_process_that_ignores_everything(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("deaf"), probe(&["deaf"])).await.expect("created");
        let mut started = container.start().await.expect("started");
        let mut out = Lines::of(started.stdout.take().expect("stdout"));
        assert_eq!(out.next().await, "ready");
        container.signal(&started.pidfd, libc::SIGTERM).expect("sent");
        container.kill().expect("killed");
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        container.delete().await.expect("deleted");
        assert_eq!(container.signal(&started.pidfd, libc::SIGTERM).expect_err("gone").kind(), ErrorKind::State);
    });
}

fn a_signal_is_felt(scene: &Scene) {
    scene.play(async |host| {
        // The last two are SIGRTMIN and SIGRTMAX.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGHUP, 34, 64] {
            let mut main = probe(&["wait"]);
            main.stdin = Stdio::Piped;
            let container = host.create(host.spec("feels"), main).await.expect("created");
            let mut started = container.start().await.expect("started");
            let mut out = Lines::of(started.stdout.take().expect("stdout"));
            assert_eq!(out.next().await, "ready");
            for none in [0, 32, 65, -1] {
                let error = container.signal(&started.pidfd, none).expect_err("no signal");
                assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("signal")));
            }
            container.signal(&started.pidfd, signal).expect("sent");
            let exit = wait::soon("its end", started.exit).await.expect("an exit");
            assert_eq!(exit.status, ExitStatus::Signal { signal, core_dumped: false });
            container.delete().await.expect("deleted");
        }
    });
}

fn the_id_is_taken_while_the_container_lives(scene: &Scene) {
    scene.play(async |host| {
        let first = host.create(host.spec("twin"), probe(&["true"])).await.expect("created");
        let errors = host.refused(host.spec("twin"), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Exists, Some("id")), "{errors:?}");
        first.delete().await.expect("deleted");
        host.once(host.spec("twin"), probe(&["true"])).await;
    });
}

fn delete_twice_and_shutdown_twice(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("twice"), probe(&["deaf"])).await.expect("created");
        let _started = container.start().await.expect("started");
        let (one, two) = tokio::join!(container.delete(), container.delete());
        one.expect("deleted");
        two.expect("deleted");
        container.delete().await.expect("deleted again");
        container.kill().expect("killing the dead is no error");
        host.rt.shutdown().await;
        assert!(host.create(host.spec("late"), probe(&["true"])).await.is_err(), "created after the shutdown");
    });
}

fn dropping_a_container_kills_it(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("dropped"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        drop(container);
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
    });
}

fn two_supervisors_side_by_side(scene: &Scene) {
    scene.play(async |one| {
        let (rt, driver) = orangery_runtime::native::NativeRuntime::start(scene.options()).expect("a second runtime");
        let driver = tokio::spawn(driver.run());
        let two = Host::new(rt, scene);
        let (a, b) = tokio::join!(one.see(&[], |_, _| ()), two.see(&[], |_, _| ()));
        assert_ne!(a["ns"]["pid"], b["ns"]["pid"]);
        assert_ne!(one.rt.keeper_pid(), two.rt.keeper_pid());
        two.rt.shutdown().await;
        driver.await.expect("no panic");
        one.once(one.spec("after"), probe(&["true"])).await;
    });
}

fn rusage_is_told(scene: &Scene) {
    scene.play(async |host| {
        let outcome = host.once(host.spec("burns"), probe(&["burn", "60"])).await;
        let usage = outcome.exit.rusage.expect("rusage");
        assert!(usage.user_us + usage.system_us > 0 && usage.max_rss_kib > 100, "{usage:?}");
        assert!(outcome.exit.at_ns > 0);
    });
}

fn many_at_once(scene: &Scene) {
    scene.play(async |host| {
        let lives = (0..32).map(|n| host.once(host.spec(&format!("c{n}")), probe(&["exit", "5"])));
        let mut left: Vec<std::pin::Pin<Box<dyn Future<Output = orangery_tests::Outcome>>>> =
            lives.map(|life| Box::pin(life) as std::pin::Pin<Box<dyn Future<Output = _>>>).collect();
        // All polled by one task, none before the others are done.
        std::future::poll_fn(|cx| {
            left.retain_mut(|life| match life.as_mut().poll(cx) {
                std::task::Poll::Ready(outcome) => {
                    assert_eq!(outcome.code(), 5);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if left.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
}
