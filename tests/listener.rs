//! A system call filter that asks: one call, answered from outside.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::process::ExitCode;

use orangery_runtime::seccomp::{Action, Answer, Arch, Asked, Filter, Listener, Rule, syscall_number};
use orangery_runtime::spec::Seccomp;
use orangery_runtime::{ErrorKind, ExitStatus, ProcessSpec};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Scene, trial, wait};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(a_call_is_answered_from_outside),
        trial!(a_killed_process_asks_no_more),
        trial!(without_a_listener_left_the_call_does_not_exist),
        trial!(filters_add_up),
        trial!(what_cannot_be_started_is_refused),
    ])
}

fn only(calls: &[&str], action: Action) -> Filter {
    let numbers = calls.iter().filter_map(|name| syscall_number(name));
    let rules = numbers.map(|syscall| Rule { syscall, args: Vec::new(), action }).collect();
    Filter { default: Action::Allow, rules, arches: vec![Arch::native()] }
}

/// mkdir(1), asking.
fn mkdir(path: &str) -> ProcessSpec {
    let mut process = command(&["mkdir", path]);
    process.filters = vec![only(&["mkdir", "mkdirat"], Action::Notify)];
    process
}

async fn next(listener: &mut Listener) -> Option<Asked> {
    wait::soon("a question", listener.next()).await.expect("heard")
}

/// Fails, pretends, and lets it be done; our profile holds beside it, with and without a stub init.
fn a_call_is_answered_from_outside(scene: &Scene) {
    scene.play(async |host| {
        let answers = [
            (Answer::Errno(122), 1, "Disk quota exceeded"),
            (Answer::Value(0), 0, ""),
            (Answer::Continue, 0, ""),
            (Answer::Errno(17), 1, "File exists"),
        ];
        for without_init in [false, true] {
            for (answer, code, words) in answers {
                let mut spec = host.spec("asks");
                spec.without_init = without_init;
                let mut main = mkdir("/tmp/asked");
                main.preserved = vec![std::sync::Arc::new(std::fs::File::open("/dev/null").expect("null").into())];
                let container = host.create(spec, main).await.expect("created");
                let mut started = wait::soon("a start", container.start()).await.expect("started");
                let mut listener = Listener::new(started.listener.take().expect("a listener")).expect("watched");
                let asked = next(&mut listener).await.expect("a question");
                assert_eq!(asked.arch, Arch::native().audit());
                assert!([syscall_number("mkdir"), syscall_number("mkdirat")].contains(&Some(asked.number)));
                assert_eq!((asked.args[1] == 0o777 || asked.args[2] == 0o777, listener.waits(asked.id)), (true, true));
                assert!(listener.answer(asked.id, answer).expect("answered"));
                assert!(!listener.answer(asked.id, answer).expect("once only"));
                let ended = outcome(started).await;
                assert_eq!((ended.code(), ended.err.contains(words)), (code, true), "{answer:?}: {ended:?}");
                assert_eq!(next(&mut listener).await, None, "nobody is left");
                container.delete().await.expect("deleted");
            }
        }
    });
}

fn a_killed_process_asks_no_more(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("asks"), mkdir("/tmp/asked")).await.expect("created");
        let mut started = container.start().await.expect("started");
        let mut listener = Listener::new(started.listener.take().expect("a listener")).expect("watched");
        let asked = next(&mut listener).await.expect("a question");
        container.kill().expect("killed");
        let exit = wait::soon("an exit", started.exit).await.expect("told");
        assert!(matches!(exit.status, ExitStatus::Signal { signal: 9, .. }), "{exit:?}");
        assert!(!listener.waits(asked.id));
        assert!(!listener.answer(asked.id, Answer::Value(0)).expect("nobody waits"));
        assert_eq!(next(&mut listener).await, None);
        container.delete().await.expect("deleted");
    });
}

/// Nobody takes the listener: it is closed with the answer, and the kernel says ENOSYS.
fn without_a_listener_left_the_call_does_not_exist(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("asks"), mkdir("/tmp/asked")).await.expect("created");
        let mut started = container.start().await.expect("started");
        drop(started.listener.take());
        let ended = outcome(started).await;
        assert!(ended.code() == 1 && ended.err.contains("Function not implemented"), "{ended:?}");
        container.delete().await.expect("deleted");
    });
}

/// Our profile and two filters, in one program and without a listener.
fn filters_add_up(scene: &Scene) {
    scene.play(async |host| {
        for profile in [Seccomp::Default, Seccomp::Unconfined] {
            let mut main = command(&["sh", "-c", "grep ^Seccomp_filters /proc/self/status; uname; mkdir /tmp/x"]);
            main.seccomp = profile;
            main.filters = vec![
                only(&["uname", "mkdir", "mkdirat"], Action::Errno(1)),
                only(&["uname"], Action::Log),
                only(&["mkdir", "mkdirat"], Action::Errno(28)),
            ];
            let container = host.create(host.spec("adds"), main).await.expect("created");
            let started = container.start().await.expect("started");
            assert!(started.listener.is_none());
            let ended = outcome(started).await;
            assert!(ended.out.contains("Seccomp_filters:\t1\n"), "{ended:?}");
            let (uname, mkdir) = ("Operation not permitted", "No space left on device");
            assert!(ended.err.contains(uname) && ended.err.contains(mkdir), "{ended:?}");
            container.delete().await.expect("deleted");
        }
    });
}

fn what_cannot_be_started_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let notify = |calls: &[&str]| only(calls, Action::Notify);
        let by_default = Filter { default: Action::Notify, ..only(&[], Action::Allow) };
        let elsewhere = Filter { arches: Vec::new(), ..notify(&["mkdir"]) };
        let too_large = only(&["mkdir"], Action::Errno(5000));
        let undeliverable = vec![notify(&["mkdirat"]), only(&["sendmsg"], Action::Errno(1))];
        let wrong = [
            vec![notify(&["execve"])],
            vec![notify(&["sendmsg"])],
            vec![notify(&["prctl"])],
            vec![by_default],
            vec![elsewhere],
            vec![too_large],
            undeliverable,
        ];
        for filters in wrong {
            let mut main = probe(&["true"]);
            main.filters = filters.clone();
            let refused = host.refused(host.spec("refused"), main).await;
            let error = &refused.0[0];
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("filters")), "{filters:?}: {error:?}");
        }
    });
}
