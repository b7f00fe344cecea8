//! What cannot be joined, and what makes no sense beside it: each refusal by its field, and what the kernel says itself.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use orangery_runtime::ErrorKind;
use orangery_runtime::plan::wire::{Ask, JOINABLE, Message, Op, Purpose, Stage, Tell};
use orangery_runtime::plan::{Builder, Need, Plan};
use orangery_runtime::spec::{Access, Disk, Mount, Network, Rootfs, StagedFile, UserNamespace, namespaces};
use orangery_tests::host::probe;
use orangery_tests::raw::{Raw, framed};
use orangery_tests::{Host, Scene, wait};

use crate::{KINDS, Living, fields, joining, keeper_links, open};

pub(crate) fn what_is_no_namespace_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let own = std::process::id().cast_signed();
        let file = |path: &str| Arc::new(OwnedFd::from(File::open(path).expect("a file")));
        let mut spec = host.spec("wrong");
        spec.join = vec![file("/dev/null"), open(own, "user")];
        let errors = host.refused(spec, probe(&["true"])).await;
        let wanted = [(ErrorKind::Invalid, "join[0]"), (ErrorKind::Invalid, "join[1]")];
        assert_eq!(fields(&errors)[..2], wanted, "{errors:?}");
        let mut spec = host.spec("twice");
        spec.join = vec![open(own, "uts"), open(own, "uts")];
        let errors = host.refused(spec, probe(&["true"])).await;
        assert!(fields(&errors).contains(&(ErrorKind::Invalid, "join[1]")), "{errors:?}");
        for (kind, path, word) in [
            ("net", "/proc/self/ns/uts", "kind uts, not net"),
            ("net", "/dev/null", "no namespace"),
            ("net", "/proc/self/ns", "no namespace"),
            ("clock", "/proc/self/ns/time", "net, ipc, uts"),
            ("net", "/no/such/file", "/no/such/file"),
        ] {
            let error = namespaces::open(kind, Path::new(path)).expect_err("refused");
            assert!(error.what().contains(word), "{kind} {path}: {error}");
        }
    });
}

pub(crate) fn what_makes_no_sense_beside_is_refused_by_its_name(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let mut spec = joining(host, "both", &other, &["mnt"]);
        spec.rootfs = Rootfs::HostRoot;
        spec.host_opt = true;
        spec.mounts.push(Mount::tmpfs("/scratch"));
        spec.files.push(StagedFile { path: "/tmp/x".into(), content: b"x".as_slice().into(), mode: 0o600 });
        spec.masked_paths.push("/etc/hosts".into());
        spec.readonly_paths.push("/var".into());
        spec.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        spec.mqueue = true;
        spec.disk = Disk { bytes: 1 << 20, ..Disk::default() };
        let errors = host.refused(spec, probe(&["true"])).await;
        let invalid = |field| (ErrorKind::Invalid, field);
        assert_eq!(
            fields(&errors),
            ["rootfs", "host_opt", "mounts", "files", "masked_paths", "readonly_paths", "sysctls", "mqueue", "disk"]
                .map(invalid)
        );
        let mut spec = joining(host, "more", &other, &["uts", "net", "ipc", "user"]);
        spec.hostname = Some("other".into());
        spec.network = Network::Host;
        spec.user_namespace = UserNamespace::Shared;
        spec.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(fields(&errors), ["sysctls", "hostname", "network", "user_namespace"].map(invalid));
        let mut spec = joining(host, "image", &other, &["mnt"]);
        spec.rootfs = Rootfs::Dir { path: "/usr".into(), access: Access::Overlay };
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(fields(&errors), [invalid("rootfs")]);
        other.end().await;
    });
}

/// An ordinary user's keeper lives in a user namespace of its own: the host's are beyond it, and so are another keeper's.
pub(crate) fn what_others_own_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let own = std::process::id().cast_signed();
        for kind in KINDS.iter().filter(|kind| !["user", "pid"].contains(kind)) {
            let mut spec = host.spec("host");
            if *kind == "mnt" {
                spec.mounts.clear();
            }
            spec.join = vec![open(own, kind)];
            let errors = host.refused(spec, probe(&["true"])).await;
            assert_eq!(fields(&errors)[0], (ErrorKind::Permission, "join[0]"), "{kind}: {errors:?}");
        }
    });
    scene.block_on(async {
        let start = || orangery_runtime::native::NativeRuntime::start(scene.options()).expect("a runtime");
        let ((one, driver), (two, other_driver)) = (start(), start());
        let drivers = [tokio::spawn(driver.run()), tokio::spawn(other_driver.run())];
        let (one, two) = (Host::new(one, scene), Host::new(two, scene));
        let other = Living::new(&one, one.spec("other")).await;
        let errors = two.refused(joining(&two, "x", &other, &["net", "user"]), probe(&["true"])).await;
        let wanted = [(ErrorKind::Permission, "join[0]"), (ErrorKind::Permission, "join[1]")];
        assert_eq!(fields(&errors), wanted, "{errors:?}");
        other.end().await;
        for host in [one, two] {
            wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&host.rt)).await;
        }
        for driver in drivers {
            wait::soon("the driver's end", driver).await.expect("no panic");
        }
    });
}

pub(crate) fn a_user_namespace_without_anybody_in_it(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let mut spec = host.spec("empty");
        spec.join = other.namespaces(&["user"]);
        other.end().await;
        // A round trip through the keeper, behind the reaping of the last.
        host.see(&[], |_, _| {}).await;
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(fields(&errors), [(ErrorKind::Unsupported, "join[0]")], "{errors:?}");
    });
}

/// All that can be joined, in the order of [`JOINABLE`].
const JOINED: [&str; JOINABLE.len()] = ["net", "ipc", "uts", "cgroup", "pid", "mnt", "time", "user"];

/// A plan that joins one namespace and ends.
fn plan(place: usize) -> Plan {
    let mut builder = Builder::new(&[Need::Namespace(u16::try_from(place).expect("small"))]);
    builder.born_joined().op(Op::Quit, 0, 0, 0);
    builder.finish()
}

fn ask(keeper: &Raw, place: usize, namespace: &OwnedFd) -> Message {
    let plan = plan(place);
    let purposes: Vec<Purpose> = plan.needs().iter().map(|need| need.purpose()).collect();
    let head = Message { kind: Ask::Spawn as u16, id: 5, ..Message::default() };
    let null = File::options().write(true).open("/dev/null").expect("null");
    keeper.send(&framed(head, &purposes, plan.bytes()), &[null.as_fd(), namespace.as_fd()]);
    keeper.next()
}

/// What the kernel says where nothing was looked at before: to the middle process, never to the keeper.
pub(crate) fn the_kernels_own_words(scene: &Scene) {
    let mut dead = None;
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        dead = other.namespaces(&["pid"]).pop();
        other.end().await;
    });
    let keeper = Raw::start();
    keeper.lives();
    let before = (keeper.descriptors(), keeper_links(keeper.pid().cast_signed()));
    let failed = |message: &Message| {
        assert_eq!(Tell::from_u16(message.kind), Some(Tell::Failed), "{message:?}");
        (Stage::ALL.into_iter().find(|stage| *stage as u64 == message.x), message.errno)
    };
    let place = |kind: &str| JOINED.iter().position(|have| *have == kind).expect("a kind");
    let dead = dead.expect("a namespace");
    assert_eq!(failed(&ask(&keeper, place("pid"), &dead)), (Some(Stage::Clone), libc::ENOMEM));
    let own = std::process::id().cast_signed();
    assert_eq!(failed(&ask(&keeper, place("user"), &open(own, "user"))), (Some(Stage::JoinUser), libc::EINVAL));
    for (index, kind) in JOINED.iter().enumerate() {
        // Another kind than the purpose says.
        let wrong = open(own, if *kind == "uts" { "ipc" } else { "uts" });
        assert_eq!(failed(&ask(&keeper, index, &wrong)), (Some(Stage::JOIN[index]), libc::EINVAL), "{kind}");
    }
    keeper.lives();
    assert_eq!((keeper.descriptors(), keeper_links(keeper.pid().cast_signed())), before);
    keeper.end();
}
