//! What a command says and how it ends.

use std::os::fd::OwnedFd;

use orangery_runtime::ExitStatus;
use orangery_runtime::spec::{Stdio, User};
use orangery_tests::Scene;
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::wait::{self, Lines};

use crate::program::{Which, play};

const SIGNALLED: fn(i32) -> ExitStatus = |signal| ExitStatus::Signal { signal, core_dumped: false };

pub(crate) fn output_and_exit_codes(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for code in [0, 7, 255] {
            let main = probe(&["exit", &code.to_string()]);
            let (outcome, evidence) = host.life(host.spec("codes"), main).await;
            assert_eq!(outcome.code(), code);
            assert!(outcome.exit.rusage.is_some(), "the keeper saw it: {outcome:?}");
            assert_eq!(evidence.cgroup_mode, host.rt.native().cgroup_mode().0);
        }
        let (outcome, _) = host.life(host.spec("both"), probe(&["both", "to stdout", "to stderr"])).await;
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("to stdout\n", "to stderr\n"));
    });
}

pub(crate) fn a_command_that_is_pid_1(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for code in [0, 9] {
            let mut spec = host.spec("first");
            spec.without_init = true;
            let (outcome, _) = host.life(spec, command(&["/bin/sh", "-c", &format!("echo $$; exit {code}")])).await;
            assert_eq!((outcome.code(), outcome.out.as_str()), (code, "1\n"));
            assert!(outcome.exit.rusage.is_some(), "{outcome:?}");
        }
    });
}

pub(crate) fn standard_input(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for without_init in [false, true] {
            let (mut spec, mut main) = (host.spec("input"), probe(&["cat"]));
            spec.without_init = without_init;
            main.stdin = Stdio::Piped;
            let container = host.create(spec, main).await;
            let mut started = container.start().await.expect("started");
            let input: OwnedFd = started.stdin.take().expect("an input");
            rustix::io::write(&input, b"through and back").expect("written");
            drop(input);
            let outcome = outcome(started).await;
            assert_eq!((outcome.code(), outcome.out.as_str()), (0, "through and back"));
            container.delete().await.expect("deleted");
        }
    });
}

pub(crate) fn signals(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let container = host.create(host.spec("signals"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        container.signal(&started.pidfd, 15).expect("sent");
        assert_eq!(outcome(started).await.exit.status, SIGNALLED(15));
        let (outcome, _) = {
            container.delete().await.expect("deleted");
            host.life(host.spec("raises"), probe(&["raise", "10"])).await
        };
        assert_eq!(outcome.exit.status, SIGNALLED(10));
    });
}

pub(crate) fn further_processes(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let mut main = probe(&["wait"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("further"), main).await;
        let mut started = container.start().await.expect("started");
        let mut lines = Lines::of(started.stdout.take().expect("an output"));
        assert_eq!(wait::soon("ready", lines.next()).await, "ready");
        for code in [0, 3] {
            let process = container.exec(probe(&["exit", &code.to_string()])).await.expect("it runs");
            let outcome = outcome(process).await;
            assert_eq!(outcome.code(), code);
            assert!(outcome.exit.rusage.is_some(), "{outcome:?}");
        }
        let mut process = command(&["/bin/sh", "-c", "id -u; echo $HERE; pwd; umask; cat"]);
        process.user = User::Ids { uid: 1234, gid: 4321 };
        process.env = vec![("HERE".into(), "there".into()), ("PATH".into(), "/bin".into())];
        process.cwd = Some("/etc".into());
        process.umask = (which == Which::Ours).then_some(0o027);
        process.stdin = Stdio::Piped;
        let mut process = container.exec(process).await.expect("it runs");
        let input = process.stdin.take().expect("an input");
        rustix::io::write(&input, b"and its input\n").expect("written");
        drop(input);
        let umask = if which == Which::Ours { "0027" } else { "0022" };
        assert_eq!(outcome(process).await.out, format!("1234\nthere\n/etc\n{umask}\nand its input\n"));
        let process = container.exec(probe(&["deaf"])).await.expect("it runs");
        container.signal(&process.pidfd, 9).expect("sent");
        assert_eq!(outcome(process).await.exit.status, SIGNALLED(9));
        drop(started.stdin.take());
        assert_eq!(outcome(started).await.code(), 0);
        container.delete().await.expect("deleted");
    });
}

/// Nobody is reaped before it was claimed, and nobody gets another one's end.
pub(crate) fn many_short_processes_at_once(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let container = host.create(host.spec("many"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        let ends = (0..12).map(|code| {
            let begun = container.exec(probe(&["exit", &code.to_string()]));
            tokio::spawn(async move { (code, outcome(begun.await.expect("it runs")).await.code()) })
        });
        for end in ends.collect::<Vec<_>>() {
            let (asked, got) = wait::soon("its end", end).await.expect("no panic");
            assert_eq!(asked, got);
        }
        container.kill().expect("killed");
        assert_eq!(outcome(started).await.exit.status, SIGNALLED(9));
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn an_idle_container(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let mut spec = host.spec("idle");
        spec.idle = true;
        let container = host.create(spec, command(&[])).await;
        let started = container.start().await.expect("started");
        let process = container.exec(probe(&["exit", "5"])).await.expect("it runs");
        assert_eq!(outcome(process).await.code(), 5);
        container.kill().expect("killed");
        assert_eq!(outcome(started).await.exit.status, SIGNALLED(9));
        container.delete().await.expect("deleted");
    });
}
