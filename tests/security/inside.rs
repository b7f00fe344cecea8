//! What a process inside tries against the kernel, the stub init, the keeper and the host.

use std::fs;

use orangery_runtime::Container;
use orangery_runtime::spec::{ContainerSpec, ProcessSpec, Seccomp, Stdio, User};
use orangery_tests::Scene;
use orangery_tests::host::{Host, command, outcome, probe, see};
use orangery_tests::wait::{self, Lines};
use serde_json::Value;

/// "Created" is told just before the stub lets go of its descriptors, of which nobody is told.
fn let_go(container: &dyn Container) {
    wait::until("an empty table of descriptors", || {
        fs::read_dir(format!("/proc/{}/fd", container.init_pid())).map_or(true, |fds| fds.count() == 0)
    });
}

/// What this process says that has the stub beside it as it is from then on.
async fn said(host: &Host, spec: ContainerSpec, main: ProcessSpec) -> Value {
    let container = host.create(spec, main).await.expect("created");
    let_go(&*container);
    let said = outcome(container.start().await.expect("started")).await.json();
    container.delete().await.expect("deleted");
    said
}

/// Every attempt must be refused, but those in `allowed`.
fn refused(said: &Value, allowed: &[&str]) {
    let said = said.as_object().expect("attempts");
    assert!(said.len() > 60);
    let worked: Vec<&String> = said
        .iter()
        .filter(|(name, errno)| **errno == 0 && !allowed.contains(&name.as_str()))
        .map(|(name, _)| name)
        .collect();
    assert!(worked.is_empty(), "these worked: {worked:?}\nof {said:?}");
}

pub(crate) fn what_a_container_must_not_do(scene: &Scene) {
    scene.play(async |host| {
        // With a range of ids setgroups is the container's own business.
        let seen = host.see(&["/proc/self/setgroups"], |_, _| ()).await;
        let range = seen["paths"]["/proc/self/setgroups"]["content"] == "allow\n";
        assert!(range || !host.root());
        let allowed: &[&str] = if range { &["setgroups"] } else { &[] };
        refused(&said(host, host.spec("run"), probe(&["attack"])).await, allowed);
        let container = host.create(host.spec("exec"), probe(&["true"])).await.expect("created");
        let_go(&*container);
        refused(&outcome(container.exec(probe(&["attack"])).await.expect("exec")).await.json(), allowed);
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn what_an_ordinary_user_inside_must_not_do(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["attack"]);
        main.user = User::Ids { uid: 1234, gid: 1234 };
        refused(&said(host, host.spec("user"), main).await, &[]);
    });
}

/// The filter is a second wall: these hold without it.
pub(crate) fn what_the_kernel_refuses_without_the_filter(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["attack"]);
        main.seccomp = Seccomp::Unconfined;
        let said = said(host, host.spec("unconfined"), main).await;
        for name in [
            "open-own-exe-for-write",
            "open-init-exe-for-write",
            "open-init-exe",
            "list-init-fds",
            "read-init-environ",
            "read-init-maps",
            "open-init-mem",
            "ptrace-seize-init",
            "ptrace-attach-init",
            "read-init-memory",
            "steal-init-fd",
            "unshare-mnt",
            "unshare-net",
            "mount-tmpfs",
            "remount-root-rw",
            "umount-proc",
            "umount-mask",
            "pivot-root",
            "open-tree",
            "mknod-block",
            "mknod-char",
            "become-unmapped",
            "init-module",
            "delete-module",
            "kexec",
            "settimeofday",
            "sethostname",
            "packet-socket",
            "raw-socket",
            "sysrq",
            "core-pattern",
            "modprobe-path",
            "lower-oom-score",
            "write-usr",
            "write-root",
            "write-etc",
            "open-kcore",
            "open-disk",
            "tiocsti",
        ] {
            assert!(said[name].as_i64().is_some_and(|errno| errno < 0), "{name} worked: {said}");
        }
    });
}

pub(crate) fn the_stub_init_cannot_be_looked_into(scene: &Scene) {
    scene.play(async |host| {
        let said = said(host, host.spec("stub"), probe(&["attack"])).await;
        // An ordinary user's single id owns the listing, which is empty; nothing in it could be followed.
        assert!(
            said["list-init-fds"] == -libc::EACCES || (!host.root() && said["list-init-fds"] == -libc::ENOENT),
            "{said}"
        );
        for name in [
            "open-init-exe-for-write",
            "open-init-exe",
            "open-init-mem",
            "read-init-environ",
            "read-init-maps",
            "follow-init-root",
            "follow-init-cwd",
        ] {
            assert_eq!(said[name], -libc::EACCES, "{name}: {said}");
        }
        // A filter or the kernel: EPERM either way.
        for name in ["ptrace-seize-init", "ptrace-attach-init", "read-init-memory", "steal-init-fd"] {
            assert_eq!(said[name], -libc::EPERM, "{name}: {said}");
        }
        // From outside: no descriptor, no capability.
        let container = host.create(host.spec("outside"), probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let status = fs::read_to_string(format!("/proc/{}/status", container.init_pid())).expect("status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let_go(&*container);
        container.delete().await.expect("deleted");
    });
}

/// CVE-2019-5736 and its like: a process inside watches for those that enter it.
pub(crate) fn the_helper_cannot_be_looked_into_on_its_way(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["spy"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("spy"), main).await.expect("created");
        let mut spy = container.start().await.expect("started");
        let mut lines = Lines::of(spy.stdout.take().expect("stdout"));
        assert_eq!(lines.next().await, "ready");
        for _ in 0..150 {
            outcome(container.exec(probe(&["true"])).await.expect("exec")).await;
        }
        drop(spy.stdin.take());
        let said: Value = serde_json::from_str(&lines.next().await).expect("JSON");
        assert!(said["looked"].as_u64() > Some(100), "{said}");
        assert_eq!(said["opened"], serde_json::json!([]), "{said}");
        outcome(spy).await;
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn no_descriptor_reaches_the_process(scene: &Scene) {
    let leaked: Vec<fs::File> = (0..30)
        .map(|_| {
            let file = fs::File::open("/").expect("a directory of the host");
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("inheritable");
            file
        })
        .collect();
    scene.play(async |host| {
        let container = host.create(host.spec("fds"), see(&[])).await.expect("created");
        let started = [container.start().await.expect("started"), container.exec(see(&[])).await.expect("exec")];
        for started in started {
            let fds = outcome(started).await.json()["fds"].clone();
            assert_eq!(fds.as_object().expect("fds").len(), 3, "{fds}");
        }
        container.delete().await.expect("deleted");
    });
    drop(leaked);
}

/// To everybody that it may signal, its init too: neighbours, the keeper and we are not among them.
pub(crate) fn signals_stay_inside(scene: &Scene) {
    scene.play(async |host| {
        let quiet = host.create(host.spec("quiet"), command(&["sleep", "1000"])).await.expect("created");
        quiet.start().await.expect("started");
        let loud = "sleep 1000 & kill -9 -1; kill -9 1; kill -STOP 1; wait; echo still";
        let loud = host.once(host.spec("loud"), command(&["sh", "-c", loud])).await;
        assert_eq!(loud.out, "still\n", "{}", loud.err);
        let further = outcome(quiet.exec(probe(&["true"])).await.expect("exec")).await;
        assert_eq!(further.code(), 0);
        quiet.delete().await.expect("deleted");
    });
}

pub(crate) fn cgroup_files_cannot_be_written(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("cgroup");
            spec.without_init = without_init;
            let said = host.once(spec, probe(&["write-cgroup"])).await.json();
            let said = said.as_object().expect("files");
            // A container whose groups are all of version 1 is shown none of them.
            let shown = host.rt.cgroup_mode().0 != "v1";
            assert!(said.len() > if shown { 3 } else { 0 }, "{said:?}");
            assert!(said.values().all(|errno| errno.as_i64().is_some_and(|errno| errno < 0)), "{said:?}");
            assert!(said.keys().all(|path| !path.contains("..")), "{said:?}");
        }
    });
}
