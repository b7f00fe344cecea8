//! Terminals that a program makes and hands over.

use std::os::fd::OwnedFd;

use orangery_runtime::spec::{ProcessSpec, Stdio, WindowSize};
use orangery_runtime::{ErrorKind, ExitStatus, Started};
use orangery_tests::Scene;
use orangery_tests::host::{command, outcome};
use orangery_tests::wait;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::program::{SENDS, Which, play, play_with};
use crate::refused::script;

const SIZE: WindowSize = WindowSize { rows: 33, columns: 77 };

fn at_a_terminal(line: &str) -> ProcessSpec {
    let mut process = command(&["/bin/sh", "-c", line]);
    process.tty = Some(SIZE);
    (process.stdin, process.stdout, process.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    process
}

/// Read what is shown until it has this in it; without, until it is hung up.
async fn shown(master: &OwnedFd, until: Option<&str>) -> String {
    let master = master.try_clone().expect("a duplicate");
    let until = until.map(str::to_owned);
    let read = tokio::task::spawn_blocking(move || {
        let (mut all, mut bytes) = (String::new(), [0; 512]);
        while until.as_ref().is_none_or(|until| !all.contains(until)) {
            match rustix::io::read(&master, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::IO) => break,
                read => all.push_str(&String::from_utf8_lossy(&bytes[..read.expect("readable")])),
            }
        }
        all
    });
    wait::soon("what is shown", read).await.expect("no panic")
}

/// Resized and typed at; it ends with 4.
async fn used(started: Started) {
    let master = started.tty.as_ref().expect("a terminal");
    let first = shown(master, Some("77\r\n")).await;
    assert!(first.contains("33 77"), "{first:?}");
    tcsetwinsize(master, Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("resized");
    rustix::io::write(master, b"typed\n").expect("written");
    let rest = shown(master, None).await;
    assert!(rest.contains("50 100") && rest.contains("got typed"), "{rest:?}");
    assert_eq!(outcome(started).await.code(), 4);
}

pub(crate) fn a_terminal_of_each(scene: &Scene, which: Which) {
    // Some set the size of it when the command of an exec runs already.
    let line = "until [ \"$(/bin/busybox stty size 2>/dev/null)\" = '33 77' ]; do :; done; \
                /bin/busybox stty size; read line; /bin/busybox stty size; echo got $line; exit 4";
    play(scene, which, async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("terminal");
            spec.without_init = without_init;
            let container = host.create(spec, at_a_terminal(line)).await;
            let started = wait::soon("start", container.start()).await.expect("started");
            if !without_init {
                let beside = wait::soon("exec", container.exec(at_a_terminal(line))).await.expect("it runs");
                used(beside).await;
            }
            used(started).await;
            container.delete().await.expect("deleted");
        }
    });
}

/// Who nobody looks at any more is told so.
pub(crate) fn a_hang_up(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let container = host.create(host.spec("hangs-up"), command(&["/bin/sleep", "1000"])).await;
        let main = container.start().await.expect("started");
        let mut started = container.exec(at_a_terminal("echo ready; exec /bin/sleep 1000")).await.expect("it runs");
        let master = started.tty.take().expect("a terminal");
        shown(&master, Some("ready")).await;
        drop((master, started.stdout.take()));
        let exit = ExitStatus::Signal { signal: 1, core_dumped: false };
        assert_eq!(outcome(started).await.exit.status, exit);
        container.kill().expect("killed");
        outcome(main).await;
        container.delete().await.expect("deleted");
    });
}

/// A program that hands over nothing, or something else.
pub(crate) fn what_is_no_terminal(scene: &Scene) {
    let us = std::env::current_exe().expect("us").display().to_string();
    for (sends, says) in [(String::new(), "no terminal"), (format!("{SENDS}=$socket {us}"), "not the master")] {
        let lines = format!(
            r#"case "$*" in *version*) echo runc version 1.1.0; exit 0;; *delete*) exit 0;; esac
            while [ $# -gt 0 ]; do case "$1" in --pid-file) pid="$2";; --console-socket) socket="$2";; esac; shift; done
            sleep 1000 >/dev/null 2>&1 & echo $! >"$pid"
            {sends}"#
        );
        play_with(scene, orangery_runtime::drivers::Program::new(script(scene, &lines)), async |host| {
            let mut spec = host.spec("lies");
            spec.without_init = true;
            let error = host.refused(spec, at_a_terminal("true")).await.0.remove(0);
            assert_eq!((error.kind(), error.field()), (ErrorKind::Creation, Some("tty")), "{error:?}");
            assert!(error.what().contains(says), "{error:?}");
        });
    }
}
