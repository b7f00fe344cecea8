//! Programs that do not do what they are for.

use std::time::Duration;

use orangery_runtime::drivers::Program;
use orangery_runtime::{ErrorKind, Runtime as _};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Scene, stock, wait};

use crate::program::play_with;
use crate::refused::script;

/// What each of them has in front: who it is, and where the number goes.
const HEAD: &str = r#"case "$*" in *version*) echo runc version 1.1.0; exit 0;; esac
    all="$*"; while [ $# -gt 0 ]; do case "$1" in --pid-file) pid="$2";; --log) log="$2";; --bundle) bundle="$2";; esac; shift; done
    "#;

/// While one call goes on and on, what others have left behind is reaped: whose it is is known.
pub(crate) fn orphans_are_reaped_while_a_call_goes_on(scene: &Scene) {
    let notes = scene.dir().join("orphans");
    let lines = format!(
        r#"{HEAD} case "$all" in
        *create*endless*) exec sleep 1000;;
        *create*) sh -c '( echo $(exec sh -c "echo \$PPID") >>{notes}; exit 0 ) & exit 0'; exit 3;; esac"#,
        notes = notes.display()
    );
    play_with(scene, Program::new(script(scene, &lines)), async |host| {
        let endless = host.rt.create(host.spec("endless"), probe(&["true"]));
        let endless = tokio::spawn(endless);
        let orphans = || {
            let text = std::fs::read_to_string(&notes).unwrap_or_default();
            text.lines().filter_map(|line| line.trim().parse::<u32>().ok()).collect::<Vec<_>>()
        };
        wait::soon("the orphans of the first calls", async {
            // Each further call is a turn of everybody's.
            for number in 0.. {
                host.refused(host.spec(&format!("short-{number}")), probe(&["true"])).await;
                let first: Vec<_> = orphans().into_iter().take(3).collect();
                if first.len() == 3 && first.iter().all(|pid| stock::process(*pid).is_none()) {
                    break;
                }
            }
        })
        .await;
        assert!(!endless.is_finished(), "it goes on");
        endless.abort();
    });
}

/// What is not a number, numbers without end, a number of nobody, and one of somebody else's.
pub(crate) fn numbers_that_are_none(scene: &Scene) {
    let of_another = scene.dir().join("another");
    for (does, says) in [
        ("mkfifo $pid".to_owned(), "no number"),
        ("yes 7 | head -c 4000000 >$pid".to_owned(), "no number"),
        ("echo x >$pid".to_owned(), "no number"),
        ("echo 2147483647 >$pid".to_owned(), "that has fallen to us"),
        ("echo $$ >$pid".to_owned(), "that has fallen to us"),
        (format!("cat {} >$pid", of_another.display()), "that has fallen to us"),
    ] {
        let lines = format!(
            r#"{HEAD} case "$all" in
            *create*honest*) sleep 1000 >/dev/null 2>&1 & echo $! >$pid; echo $! >{};;
            *create*) {does};; *) exit 0;; esac"#,
            of_another.display()
        );
        play_with(scene, Program::new(script(scene, &lines)), async |host| {
            let honest = host.create(host.spec("honest"), command(&["/bin/sleep", "1000"])).await;
            let error = host.refused(host.spec("lies"), probe(&["true"])).await.0.remove(0);
            assert!(error.what().contains(says), "{does}: {error:?}");
            let its = std::fs::read_to_string(&of_another).expect("a number");
            let its: u32 = its.trim().parse().expect("a number");
            assert!(stock::process(its).is_some_and(|process| process.state != 'Z'), "it lives on: {does}");
            honest.delete().await.expect("deleted");
        });
    }
}

/// Megabytes in its log and on its streams, a pipe in place of its log, a deaf one.
pub(crate) fn words_without_end(scene: &Scene) {
    let deaf = "trap '' TERM HUP INT; sleep 1000 & while :; do wait; done";
    let flood = "yes error | head -c 8000000; yes error | head -c 8000000 >&2; yes '{\"level\":\"error\",\"msg\":\"m\"}' | head -c 8000000 >>$log";
    let minute = Duration::from_secs(60);
    for (does, patience, says) in [
        (format!("{flood}; exit 4"), minute, "m"),
        ("mkfifo $log; exit 4".into(), minute, "said nothing"),
        (deaf.into(), Duration::from_secs(3), "killed"),
    ] {
        let lines = format!("{HEAD} case \"$all\" in *create*) {does};; *) exit 0;; esac");
        let program = Program::new(script(scene, &lines)).patience(patience);
        play_with(scene, program, async |host| {
            let error = host.refused(host.spec("floods"), probe(&["true"])).await.0.remove(0);
            assert!(error.what().contains(says) && error.what().len() < 4096, "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Creation, "{error:?}");
        });
    }
}

/// Not even a kill ends it: that is an error, soon, and the next try removes everything.
pub(crate) fn a_removal_that_is_held_up(scene: &Scene) {
    let parents = scene.cgroup_parents().iter();
    let freezer = parents.map(|parent| parent.join("cold")).find(|dir| {
        std::fs::create_dir(dir).is_ok_and(|()| dir.join("freezer.state").exists() || std::fs::remove_dir(dir).is_err())
    });
    let freezer = freezer.expect("a freezer of version 1");
    let lines = format!(
        r#"{HEAD} case "$all" in
        *create*) sleep 1000 >/dev/null 2>&1 & echo $! >$pid;;
        *delete*) if mkdir {once}; then echo $$ >{dir}/cgroup.procs; echo FROZEN >{dir}/freezer.state; sleep 1000; fi;;
        *) exit 0;; esac"#,
        once = scene.dir().join("once").display(),
        dir = freezer.display()
    );
    let program = Program::new(script(scene, &lines)).patience(Duration::from_secs(5));
    play_with(scene, program, async |host| {
        let container = host.create(host.spec("held-up"), command(&["/bin/sleep", "1000"])).await;
        container.kill().expect("killed");
        let error = wait::soon("a refusal", container.delete()).await.expect_err("held up");
        assert_eq!((error.field(), error.stage()), (Some("runtime"), Some("script delete")), "{error:?}");
        assert!(error.errno().is_some() && error.what().contains("still there"), "{error:?}");
        let stuck = std::fs::read_to_string(freezer.join("cgroup.procs")).expect("a group");
        let stuck = wait::pidfd(stuck.lines().next().and_then(|line| line.parse().ok()).expect("somebody is held up"));
        wait::soon("the second try", container.delete()).await.expect("deleted");
        std::fs::write(freezer.join("freezer.state"), "THAWED").expect("thawed");
        wait::gone(&stuck, "who was held up");
        // The name is free.
        let container = host.create(host.spec("held-up"), command(&["/bin/sleep", "1000"])).await;
        let started = container.kill();
        started.expect("killed");
        container.delete().await.expect("deleted");
    });
    wait::removed(&freezer);
}

/// Who is left beside the process that was asked for is ended with whom it has begun, in a session of its own too; so it is after
/// calls of which nobody is asked for.
pub(crate) fn strays_are_ended(scene: &Scene) {
    let (notes, fifo) = (scene.dir().join("strays"), scene.dir().join("fifo"));
    let lines = format!(
        r#"{HEAD} stray() {{
            rm -f {fifo}; mkfifo {fifo}
            setsid sh -c 'sleep 2000 & echo $$ $! >>{notes}; echo >{fifo}; wait' >/dev/null 2>&1 &
            read ready <{fifo}; }}
        case "$all" in
        *create*fails*) stray; exit 3;;
        *create*) sleep 1000 >/dev/null 2>&1 & echo $! >$pid; stray;;
        *start*) stray;; *) exit 0;; esac"#,
        notes = notes.display(),
        fifo = fifo.display()
    );
    let ended = |count: usize| {
        let text = std::fs::read_to_string(&notes).expect("somebody was left");
        let all: Vec<u32> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert_eq!(all.len(), count, "{text}");
        // A kill is no end yet, and whom it does not end soon nobody waits for.
        for pid in all.into_iter().filter_map(wait::try_pidfd) {
            wait::gone(&pid, "a stray");
        }
    };
    play_with(scene, Program::new(script(scene, &lines)), async |host| {
        let mut spec = host.spec("stray");
        spec.without_init = true;
        let container = host.create(spec, command(&["/bin/sleep", "1000"])).await;
        ended(2);
        let started = container.start().await.expect("started");
        ended(4);
        container.kill().expect("killed");
        let killed = orangery_runtime::ExitStatus::Signal { signal: 9, core_dumped: false };
        assert_eq!(outcome(started).await.exit.status, killed, "who was asked for lived");
        container.delete().await.expect("deleted");
        host.refused(host.spec("fails"), probe(&["true"])).await;
        ended(6);
    });
}

/// A process that is left beside the one that was asked for does not hold up anything, and nobody mistakes it for another.
pub(crate) fn more_than_was_asked_for(scene: &Scene) {
    let lines = format!(
        r#"{HEAD} case "$all" in
        *create*) sleep 1000 >/dev/null 2>&1 & echo $! >$pid; ( sleep 0; exit 9 ) & ( exit 8 ) & sh -c 'exit 7' &;;
        *) exit 0;; esac"#
    );
    play_with(scene, Program::new(script(scene, &lines)), async |host| {
        let mut spec = host.spec("more");
        spec.without_init = true;
        let container = host.create(spec, command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        container.kill().expect("killed");
        let killed = orangery_runtime::ExitStatus::Signal { signal: 9, core_dumped: false };
        assert_eq!(outcome(started).await.exit.status, killed);
        container.delete().await.expect("deleted");
    });
}
