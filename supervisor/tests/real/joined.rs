//! A container in namespaces of another one, as the sandbox builder takes them: further processes, files and removal.

use orangery::runtime::spec::namespaces;
use orangery::{ErrorKind, Sandbox, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(processes_and_files_are_those_of_the_joined_root), trial!(a_namespace_of_another_kind_is_no_namespace)]
}

const SHARED: [&str; 6] = ["user", "mnt", "ipc", "uts", "net", "cgroup"];

async fn said(command: orangery::ExecCommand) -> String {
    let output = wait::soon("its end", command.run()).await.expect("run");
    String::from_utf8_lossy(&output.stdout.to_vec()).trim().to_owned()
}

fn processes_and_files_are_those_of_the_joined_root(scene: &Scene) {
    play(scene, async |supervisor: &Supervisor| {
        let other = Sandbox::builder().hostname("pear").build().expect("good");
        let other = supervisor.command("sleep").arg("1000").sandbox(&other).spawn().await.expect("spawned");
        let pid = other.inspect().pid.expect("it runs");
        let mut sandbox = Sandbox::builder().id("guest");
        for kind in SHARED {
            let path = format!("/proc/{pid}/ns/{kind}");
            sandbox = sandbox.join_namespace(namespaces::open(kind, path.as_ref()).expect("a namespace"));
        }
        let sandbox = sandbox.build().expect("good");
        let guest = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.expect("spawned");
        guest.write_file("/tmp/note", "of the guest", 0o644).await.expect("written");
        assert_eq!(&other.read_file("/tmp/note", 1024).await.expect("read")[..], b"of the guest");
        let look = ["-c", "cat /tmp/note; echo; cat /proc/sys/kernel/hostname"];
        let seen = said(guest.command("sh").args(look)).await;
        assert_eq!(seen, "of the guest\npear");
        wait::soon("delete", guest.delete()).await.expect("deleted");
        // What was joined is as it was, the file of the guest included.
        assert_eq!(said(other.command("sh").args(look)).await, seen);
        wait::soon("delete", other.delete()).await.expect("deleted");
    });
}

fn a_namespace_of_another_kind_is_no_namespace(scene: &Scene) {
    play(scene, async |supervisor| {
        let null = std::fs::File::open("/dev/null").expect("null");
        let sandbox =
            Sandbox::builder().join_namespace(std::os::fd::OwnedFd::from(null)).build().expect("not looked at");
        let error = supervisor.command("true").sandbox(&sandbox).run().await.expect_err("refused");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("join[0]")));
    });
}
