//! Further processes: everything that a command has, mounts and limits of their own.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use orangery::{
    Cause, ContainerHandle, ErrorKind, ExitStatus, LimitKind, Limits, Measured, Mount, MountSource, Sandbox, Seccomp,
    State, Supervisor, User,
};
use orangery_tests::{Scene, Trial, trial};

use crate::stage::{builder, long_enough, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(it_has_everything_that_a_command_has),
        trial!(its_timeout_ends_it_and_not_the_container),
        trial!(its_output_is_waited_for_as_the_sandbox_says),
        trial!(a_dropped_run_takes_the_process_along),
        trial!(its_mounts_are_its_own),
        trial!(a_mount_point_that_cannot_be_made_is_told),
        trial!(a_bind_mount_brings_the_hosts_files),
        trial!(its_process_limit_is_its_own, Pids),
        trial!(its_memory_limit_is_its_own_and_told, Memory),
        trial!(without_cgroups_its_limits_are_refused_by_name),
    ]
}

async fn idle(supervisor: &Supervisor) -> ContainerHandle {
    supervisor.command("sleep").arg("1000").spawn().await.unwrap()
}

async fn said(container: &ContainerHandle, script: &str) -> String {
    let output = container.command("sh").arg("-c").arg(script).await.unwrap();
    assert!(output.report.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout.to_vec()).unwrap()
}

fn it_has_everything_that_a_command_has(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(b"from a file").unwrap();
        input.rewind().unwrap();
        let (extra, mut out) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let script = "cat; echo; umask; grep -E '^(Seccomp|Groups):' /proc/self/status; cat /proc/self/oom_score_adj; \
                      echo extra >&3; env; pwd; echo error >&2";
        let command = container.command("sh").arg("-c").arg(script).stdin_fd(OwnedFd::from(input));
        let command = command.stdout_fd(out.try_clone().unwrap().into()).preserve(extra.try_clone().unwrap().into());
        let command = command.env_clear().envs([("A", "1"), ("PATH", "/usr/bin:/bin")]).umask(0o027);
        let command = command.seccomp(Seccomp::Unconfined).oom_score_adj(700).current_dir("/usr");
        let output = command.groups(scene.root().then_some(4242)).capture(4).run().await.unwrap();
        assert_eq!(output.report.exit, ExitStatus::Code(0), "{output:?}");
        assert_eq!(
            (output.stderr.to_vec().len(), output.report.stderr.bytes),
            (4, Measured::Known(6)),
            "head and tail"
        );
        assert!(matches!(output.report.stdout.bytes, Measured::Unknown { .. }));
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        for line in ["from a file", "0027", "Seccomp:\t0", "700", "A=1", "/usr"] {
            assert!(text.lines().any(|have| have == line), "{line:?} is not in {text}");
        }
        assert!(!text.contains("HOME=") && text.contains(if scene.root() { "4242" } else { "Groups:" }), "{text}");
        let mut text = String::new();
        let mut extra = extra;
        extra.rewind().unwrap();
        extra.read_to_string(&mut text).unwrap();
        assert_eq!(text, "extra\n");
    });
}

fn its_timeout_ends_it_and_not_the_container(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let timed = container.command("sleep").arg("1000").timeout(Duration::from_millis(50)).run().await.unwrap();
        assert_eq!((timed.report.cause.clone(), timed.report.shell_code()), (Cause::Limit(LimitKind::Wall), 124));
        let script = "trap 'echo told; exit 3' TERM; echo up; while :; do sleep 0.01; done";
        let command = container.command("sh").arg("-c").arg(script).timeout_gently(15, Duration::from_secs(60));
        let gently = long_enough(async |limit| command.clone().timeout(limit).run().await.unwrap()).await;
        assert_eq!(gently.stdout.to_vec(), b"up\ntold\n");
        assert_eq!((gently.report.exit, gently.report.cause), (ExitStatus::Code(3), Cause::Limit(LimitKind::Wall)));
        assert_eq!(container.inspect().state, State::Running);
    });
}

fn its_output_is_waited_for_as_the_sandbox_says(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().drain_grace(Some(Duration::ZERO)).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let output = container.command("sh").arg("-c").arg("sleep 1000 & echo done").run().await.unwrap();
        assert!(output.report.leaked_writers);
        assert_eq!(output.stdout.to_vec(), b"done\n");
        let sandbox = Sandbox::builder().drain_grace(None).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let output = container.command("sh").arg("-c").arg("(sleep 0.1; echo late) & echo done").run().await.unwrap();
        assert_eq!((output.stdout.to_vec(), output.report.leaked_writers), (b"done\nlate\n".to_vec(), false));
    });
}

fn a_dropped_run_takes_the_process_along(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let mut running = Box::pin(container.command("sh").arg("-c").arg("echo > /tmp/there; exec sleep 1000").run());
        loop {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(running.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            if container.read_file("/tmp/there", 10).await.is_ok() {
                break;
            }
        }
        drop(running);
        // The last of them besides the main process and whoever counts.
        while said(&container, "ls /proc | grep -c '^[0-9]'").await.trim() != "5" {}
        assert_eq!(container.inspect().state, State::Running);
    });
}

fn its_mounts_are_its_own(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let tmpfs = |target: &str| Mount::new(MountSource::Tmpfs { size: Some(1 << 20) }, target);
        let script = "echo mine > /tmp/own/file; echo also > /usr/share/of-mine; (cat /tmp/own/file); \
                      dd if=/dev/zero of=/tmp/own/large bs=1k count=2000 2>/dev/null || echo full";
        let command = container.command("sh").arg("-c").arg(script);
        let output = command.mount(tmpfs("/tmp/own")).mount(tmpfs("/usr/share")).run().await.unwrap();
        assert_eq!(output.stdout.to_vec(), b"mine\nfull\n", "{:?}", output.stderr);
        assert_eq!(said(&container, "ls /tmp/own; ls /usr/share/of-mine 2>/dev/null || echo none").await, "none\n");
        assert_eq!(said(&container, "grep -c /tmp/own /proc/1/mountinfo || true").await, "0\n");
        // The user is the one that was asked for, although somebody else made the mounts.
        let user = User::Ids { uid: if scene.root() { 1234 } else { 0 }, gid: if scene.root() { 1234 } else { 0 } };
        let command =
            container.command("sh").arg("-c").arg("id -u; id -G; grep CapEff /proc/self/status").user(user.clone());
        let with = command.clone().mount(tmpfs("/tmp/own")).run().await.unwrap().stdout.to_vec();
        assert_eq!(String::from_utf8(with), String::from_utf8(command.run().await.unwrap().stdout.to_vec()));
    });
}

fn a_mount_point_that_cannot_be_made_is_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let error = container.command("true").mount(Mount::tmpfs("/usr/no/such")).run().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Creation, Some("mounts")), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("read-only")), "{error:?}");
        let error = container.command("true").mount(Mount::tmpfs("tmp")).run().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("mounts[0].target")));
        said(&container, "ln -s /proc/1/root /tmp/link").await;
        let error = container.command("true").mount(Mount::tmpfs("/tmp/link/tmp/x")).run().await.unwrap_err();
        assert_eq!(error.field(), Some("mounts"), "{error}");
    });
}

fn a_bind_mount_brings_the_hosts_files(scene: &Scene) {
    let dir = scene.dir().join("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "host").unwrap();
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let command = container.command("sh").arg("-c");
        let command = command.arg("cat /tmp/d/file /tmp/f; stat -c %u /tmp/f; echo > /tmp/d/x || echo read-only");
        let command = command.bind(&dir, "/tmp/d").bind(dir.join("file"), "/tmp/f");
        if !scene.root() {
            let error = command.run().await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("mounts[0].source")));
            return;
        }
        let output = command.run().await.unwrap();
        assert_eq!(output.stdout.to_vec(), b"hosthost0\nread-only\n", "{:?}", output.stderr);
        assert_eq!(said(&container, "ls /tmp/d; cat /tmp/f").await, "", "the mount points alone are seen by others");
        let missing = container.command("true").bind("/no/such", "/tmp/d").run().await.unwrap_err();
        assert_eq!((missing.kind(), missing.field()), (ErrorKind::NotFound, Some("mounts[0].source")));
    });
}

fn its_process_limit_is_its_own(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let limits = Limits { pids: Some(2), ..Limits::default() };
        let script = "sleep 0 & sleep 0 & sleep 0 & wait; echo survived";
        for _ in 0..2 {
            let limited = container.command("sh").arg("-c").arg(script).limits(limits.clone()).run().await.unwrap();
            assert!(!limited.report.success(), "{limited:?}");
            assert!(matches!(limited.report.cgroup.pids_refused, Measured::Known(1..)), "{:?}", limited.report);
            assert_eq!(said(&container, script).await, "survived\n");
        }
        // What it leaves behind stays limited, and goes with the container.
        let left = container.command("sh").arg("-c").arg("sleep 1000 > /dev/null 2>&1 &").limits(limits);
        assert!(left.run().await.unwrap().report.success());
        container.delete().await.unwrap();
    });
}

fn its_memory_limit_is_its_own_and_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let limits = Limits { memory: Some(16 << 20), ..Limits::default() };
        let hog = container.command("sh").arg("-c").arg("x=a; while :; do x=$x$x; done").limits(limits.clone());
        let report = hog.run().await.unwrap().report;
        assert_eq!(report.cause, Cause::Limit(LimitKind::Memory), "{report:?}");
        let peak = report.cgroup.memory_peak.known().copied();
        assert!(peak.is_none_or(|peak| peak <= 17 << 20), "{report:?}");
        let modest = container.command("echo").arg("fine").limits(limits).run().await.unwrap();
        assert_eq!((modest.report.cause.clone(), modest.stdout.to_vec()), (Cause::Own, b"fine\n".to_vec()));
        assert_eq!(container.inspect().state, State::Running);
        container.kill().unwrap();
        assert_eq!(container.wait().await.unwrap().cause, Cause::Stop { escalated: true });
    });
}

fn without_cgroups_its_limits_are_refused_by_name(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).without_cgroups().build().unwrap();
        let container = idle(&supervisor).await;
        let limits = Limits { pids: Some(2), ..Limits::default() };
        let error = container.command("true").limits(limits).run().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("limits.pids")), "{error}");
        supervisor.shutdown().await;
    });
}
