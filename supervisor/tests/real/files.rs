//! Files in and out, and a container that does what it can to lead the copy astray.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use orangery::{
    Budget, ContainerHandle, CopyOptions, Error, ErrorKind, Rootfs, Sandbox, SandboxBuilder, SkipReason, State, Stdin,
    Supervisor, User,
};
use orangery_tests::{Scene, Trial, trial};

use crate::stage::{limit_descriptors, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(one_file_goes_in_and_comes_out),
        trial!(trees_go_in_and_come_out),
        trial!(what_is_special_is_told_and_never_opened),
        trial!(no_link_leads_outside),
        trial!(limits_end_a_copy_and_leave_nothing),
        trial!(a_deep_tree_takes_no_more_descriptors_than_there_are),
        trial!(nothing_is_read_in_the_supervisors_name),
        trial!(a_tree_that_changes_under_the_copy).long(),
        trial!(kept_files_outlive_the_exit_until_the_container_is_deleted),
        trial!(kept_files_go_with_the_last_handle_and_with_the_supervisor),
    ]
}

/// A container that has run `script` and waits.
async fn prepared(supervisor: &Supervisor, sandbox: SandboxBuilder, script: &str) -> ContainerHandle {
    let script = format!("{script}\necho ready; exec sleep 1000");
    let command = supervisor.command("sh").arg("-ec").arg(&script).sandbox(&sandbox.build().unwrap());
    let container = command.spawn().await.unwrap();
    let mut said = container.output();
    loop {
        match said.recv().await.expect("more output") {
            orangery::Event::Chunk(chunk) if chunk.data.ends_with(b"ready\n") => return container,
            orangery::Event::End(_) => panic!("the script failed: {script}"),
            _ => {}
        }
    }
}

fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all.extend(names(&path));
        }
        all.insert(path);
    }
    all
}

fn what(error: &Error) -> (ErrorKind, Option<&str>) {
    (error.kind(), error.field())
}

/// How deep it is, the container says: that takes nobody else's room.
fn a_deep_tree_takes_no_more_descriptors_than_there_are(scene: &Scene) {
    const NOFILE: u64 = 400;
    limit_descriptors(NOFILE);
    let out = tempfile::tempdir().unwrap();
    play(scene, async |supervisor| {
        let script = "cd /tmp; mkdir -p shallow/a/a/a; echo x > shallow/a/a/a/file
            mkdir deep; cd deep; for n in $(seq 40); do mkdir a; cd a; done";
        let container = prepared(supervisor, Sandbox::builder(), script).await;
        let used = || supervisor.budgets().of(Budget::Descriptors).used;
        let before = used();
        let room = supervisor.budgets().of(Budget::Descriptors).limit.unwrap() - before;
        // For eight, and for ten levels of two.
        limit_descriptors(NOFILE - (room - 28));
        let (deep, shallow) = (out.path().join("deep"), out.path().join("shallow"));
        let refused = container.copy_out("/tmp/deep", &deep, CopyOptions::default()).await.unwrap_err();
        assert_eq!(what(&refused), (ErrorKind::Exhausted, Some("descriptors")), "{refused}");
        assert_eq!((used(), std::fs::read_dir(out.path()).unwrap().count()), (before, 0));
        let copied = container.copy_out("/tmp/shallow", &shallow, CopyOptions::default()).await.unwrap();
        assert_eq!((copied.directories, copied.files, used()), (4, 1, before));
    });
}

fn one_file_goes_in_and_comes_out(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().file("/in/a", "staged");
        let script = "cat /in/a > /tmp/b; ln -s /etc/passwd /tmp/link; mkfifo /tmp/fifo; ln -s /tmp/b /tmp/c";
        let container = prepared(supervisor, sandbox, script).await;
        container.write_file("/tmp/c", "copied", 0o600).await.unwrap();
        let listing = container.command("sh").arg("-c").arg("cat /tmp/b /tmp/c; stat -c %a:%u /tmp/c").spawn();
        assert_eq!(listing.await.unwrap().stdout().collect(100).await.to_vec(), b"stagedcopied600:0\n");
        assert_eq!(container.read_file("/tmp/b", 6).await.unwrap(), Bytes::from_static(b"staged"));
        assert_eq!(container.read_file("/tmp/b", 5).await.unwrap_err().field(), Some("max"));
        let passwd = container.read_file("/tmp/link", 4096).await.unwrap();
        assert!(passwd.starts_with(b"root:x:0:0:root:/root:/bin/sh\nnobody"), "the container's, not the host's");
        for path in ["/dev/zero", "/tmp/fifo", "/tmp", "/proc/self/status", "/proc/1/root/tmp/b"] {
            let error = container.read_file(path, 1000).await.unwrap_err();
            assert_eq!(error.field(), Some("path"), "{path}: {error}");
        }
        let missing = container.read_file("/no/such", 1).await.unwrap_err();
        assert_eq!(what(&missing), (ErrorKind::NotFound, Some("path")));
        assert_eq!(container.write_file("/no/such", "", 0o600).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(container.write_file("/usr/x", "", 0o600).await.unwrap_err().kind(), ErrorKind::Permission);
        let large = vec![0; 65 << 20];
        assert_eq!(container.write_file("/tmp/large", large, 0o600).await.unwrap_err().kind(), ErrorKind::Exhausted);
        assert_eq!(container.read_file("/tmp/large", 1).await.unwrap_err().kind(), ErrorKind::NotFound);
        container.kill().unwrap();
        container.wait().await.unwrap();
        assert_eq!(container.read_file("/tmp/b", 100).await.unwrap_err().kind(), ErrorKind::State);
    });
}

fn trees_go_in_and_come_out(scene: &Scene) {
    let source = scene.dir().join("source");
    std::fs::create_dir_all(source.join("sub/empty")).unwrap();
    let odd = source.join("sub").join(OsStr::from_bytes(b"\xff\n"));
    std::fs::write(&odd, vec![7; 300_000]).unwrap();
    std::fs::write(source.join("run"), "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(source.join("run"), Permissions::from_mode(0o4755)).unwrap();
    symlink("sub/empty", source.join("inside")).unwrap();
    symlink("/etc", source.join("outside")).unwrap();
    play(scene, async |supervisor| {
        for user in [User::Root, User::Ids { uid: 1234, gid: 1234 }] {
            let home = if user == User::Root { "/root" } else { "/home/user" };
            let command = supervisor.command("sleep").arg("1000").user(user.clone());
            let container = command.spawn().await.unwrap();
            let inside = format!("{home}/tree");
            let copied = container.copy_in(&source, &inside, CopyOptions::default()).await.unwrap();
            assert_eq!((copied.files, copied.directories, copied.links, copied.bytes), (2, 3, 2, 300_019));
            let script = format!("cd {home}/tree && ./run && stat -c %a run && readlink outside");
            let process = container.command("sh").arg("-c").arg(script).user(user).spawn().await.unwrap();
            assert_eq!(process.stdout().collect(1000).await.to_vec(), b"ran\n755\n/etc\n");
            let out = scene.dir().join("out");
            let copied = container.copy_out(&inside, &out, CopyOptions::default()).await.unwrap();
            assert_eq!((copied.files, copied.directories, copied.links), (2, 3, 1));
            let skipped = copied.skipped.first().map(|skipped| (skipped.path.clone(), skipped.reason));
            assert_eq!(skipped, Some(("outside".into(), SkipReason::OutsideLink)));
            assert_eq!(std::fs::read(out.join("sub").join(odd.file_name().unwrap())).unwrap(), vec![7; 300_000]);
            assert_eq!(std::fs::read_link(out.join("inside")).unwrap(), Path::new("sub/empty"));
            let taken = container.copy_out(&inside, &out, CopyOptions::default()).await.unwrap_err();
            assert_eq!(what(&taken), (ErrorKind::Exists, Some("to")));
            let taken = container.copy_in(&source, &inside, CopyOptions::default()).await.unwrap_err();
            assert_eq!(what(&taken), (ErrorKind::Exists, Some("to")));
            let file = scene.dir().join("file");
            container.copy_out(format!("{inside}/run"), &file, CopyOptions::default()).await.unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
            std::fs::remove_dir_all(out).unwrap();
            std::fs::remove_file(file).unwrap();
            container.delete().await.unwrap();
        }
    });
}

fn what_is_special_is_told_and_never_opened(scene: &Scene) {
    play(scene, async |supervisor| {
        // A writer that waits in its open tells whether anybody opened the fifo for reading.
        let script = "mkdir -p /tmp/t/d; mkfifo /tmp/t/fifo; ln -s /proc /tmp/t/p; echo x > /tmp/t/none; \
                      chmod 0 /tmp/t/none; echo y > /tmp/t/d/f; \
                      (echo opened > /tmp/t/fifo; echo opened > /tmp/opened) &";
        let container = prepared(supervisor, Sandbox::builder(), script).await;
        let out = scene.dir().join("out");
        let copied = container.copy_out("/tmp/t", &out, CopyOptions::default()).await.unwrap();
        let skipped: BTreeSet<_> =
            copied.skipped.iter().map(|skipped| (skipped.path.clone(), skipped.reason)).collect();
        let expected = [("fifo", SkipReason::Fifo), ("p", SkipReason::OutsideLink), ("none", SkipReason::Unreadable)];
        let expected = expected.into_iter().map(|(name, reason)| (PathBuf::from(name), reason)).collect();
        assert_eq!(skipped, expected);
        assert_eq!(std::fs::read(out.join("d/f")).unwrap(), b"y\n");
        assert_eq!(container.read_file("/tmp/opened", 10).await.unwrap_err().kind(), ErrorKind::NotFound);
        for (path, reason) in [("/tmp/t/fifo", "Fifo"), ("/proc", "Pseudo"), ("/dev/null", "Device")] {
            let error = container.copy_out(path, scene.dir().join("x"), CopyOptions::default()).await.unwrap_err();
            assert_eq!(what(&error), (ErrorKind::Invalid, Some("from")));
            assert!(error.to_string().contains(reason), "{error}");
        }
        let whole = container.copy_out("/", scene.dir().join("all"), CopyOptions::default().entries(100)).await;
        assert_eq!(whole.unwrap_err().field(), Some("limits.entries"));
        let dev = container.copy_out("/dev", scene.dir().join("dev"), CopyOptions::default()).await.unwrap();
        assert!(dev.skipped.iter().any(|skipped| skipped.reason == SkipReason::Pseudo), "/dev/pts: {dev:?}");
        assert_eq!(dev.files, 0);
    });
}

fn no_link_leads_outside(scene: &Scene) {
    let secret = scene.dir().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    play(scene, async |supervisor| {
        let place = secret.display();
        let script = format!(
            "mkdir /tmp/t; ln -s {place}/key /tmp/file; ln -s {place} /tmp/dir; \
             ln -s ../../../../../../..{place} /tmp/up; ln -s {place} /tmp/t/a; ln -s ../../..{place} /tmp/t/b"
        );
        let container = prepared(supervisor, Sandbox::builder(), &script).await;
        for path in ["/tmp/file", "/tmp/dir/key", "/tmp/up/key", &format!("/tmp/../../..{place}/key")] {
            let error = container.read_file(path, 100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
            let error = container.write_file(path, "overwritten", 0o600).await;
            // `/tmp/file` itself is a link that is replaced by a file of the container's own.
            assert_eq!(error.is_ok(), path == "/tmp/file", "{path}");
            let to = scene.dir().join("x");
            let copied = container.copy_out(Path::new(path).parent().unwrap(), &to, CopyOptions::default()).await;
            assert_eq!(copied.is_ok(), path == "/tmp/file", "{path}");
            let _ = std::fs::remove_dir_all(&to);
            let error = container.copy_in(&secret, path, CopyOptions::default()).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Exists), "{path}: {error}");
        }
        let out = scene.dir().join("out");
        let copied = container.copy_out("/tmp/t", &out, CopyOptions::default()).await.unwrap();
        assert_eq!((copied.links, copied.skipped.len()), (0, 2));
        std::fs::remove_dir(&out).unwrap();
        let copied = container.copy_out("/tmp/t", &out, CopyOptions::default().outside_links(true)).await.unwrap();
        assert_eq!((copied.links, copied.skipped.len()), (2, 0));
        assert_eq!(std::fs::read(secret.join("key")).unwrap(), b"secret");
        assert_eq!(names(&secret).len(), 1);
    });
}

fn limits_end_a_copy_and_leave_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        let deep = "/d".repeat(200);
        let script = format!(
            "mkdir -p /tmp/deep{deep} /tmp/many /tmp/large; truncate -s 1P /tmp/large/sparse 2>/dev/null || \
             truncate -s 4T /tmp/large/sparse; i=0; while [ $i -lt 300 ]; do : > /tmp/many/$i; i=$((i+1)); done"
        );
        let container = prepared(supervisor, Sandbox::builder(), &script).await;
        let (options, to) = (CopyOptions::default(), scene.dir().join("to"));
        std::fs::create_dir(&to).unwrap();
        for (from, options, field, place) in [
            ("/tmp/deep", options, "limits.depth", "d/d/d"),
            ("/tmp/many", options.entries(300), "limits.entries", "at ."),
            ("/tmp/large", options, "limits.bytes", "sparse"),
        ] {
            let error = container.copy_out(from, to.join("copy"), options).await.unwrap_err();
            assert_eq!(what(&error), (ErrorKind::Invalid, Some(field)));
            assert!(error.to_string().contains(place), "{error}");
            assert_eq!(names(&to).len(), 0, "{field}");
        }
        container.copy_out("/tmp/many", to.join("copy"), options.entries(301)).await.unwrap();
        container.copy_out("/tmp/deep", to.join("deep"), options.depth(201)).await.unwrap();
        // The other way: the disk limit is the container's.
        let large = scene.dir().join("large");
        std::fs::create_dir(&large).unwrap();
        std::fs::File::create(large.join("sparse")).unwrap().set_len(70 << 20).unwrap();
        let error = container.copy_in(&large, "/tmp/in", options).await.unwrap_err();
        assert_eq!(error.field(), Some("limits.bytes"));
        let error = container.copy_in(&large, "/tmp/in", options.bytes(100 << 20)).await.unwrap_err();
        assert_eq!(what(&error), (ErrorKind::Exhausted, Some("to")));
        let left = container.command("ls").args(["-A", "/tmp"]).spawn().await.unwrap();
        assert_eq!(left.stdout().collect(1000).await.to_vec(), b"deep\nlarge\nmany\n");
    });
}

/// A file that the container can see and may not read stays unread, whoever the supervisor is.
fn nothing_is_read_in_the_supervisors_name(scene: &Scene) {
    if !scene.root() {
        // An ordinary user's supervisor has no right that its container lacks.
        return;
    }
    // Below a directory that the host's root shows as it is.
    let visible = tempfile::tempdir_in("/var/tmp").unwrap();
    let dir = visible.path();
    std::fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.join("closed")).unwrap();
    std::fs::write(dir.join("key"), "secret").unwrap();
    std::fs::write(dir.join("closed/key"), "secret").unwrap();
    std::fs::set_permissions(dir.join("key"), Permissions::from_mode(0o640)).unwrap();
    std::fs::set_permissions(dir.join("closed"), Permissions::from_mode(0o700)).unwrap();
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().rootfs(Rootfs::HostRoot);
        let container = prepared(supervisor, sandbox, &format!("ln -s {} /tmp/link", dir.display())).await;
        for path in ["/tmp/link/key", "/tmp/link/closed/key"] {
            let error = container.read_file(path, 100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Permission, "{path}: {error}");
        }
        let out = scene.dir().join("out");
        let copied = container.copy_out("/tmp/link", &out, CopyOptions::default()).await.unwrap();
        assert_eq!((copied.files, copied.skipped.len()), (0, 2), "{copied:?}");
        assert!(copied.skipped.iter().all(|skipped| skipped.reason == SkipReason::Unreadable));
    });
}

/// A directory and a file are swapped with links, fifos and each other while they are copied, both ways.
fn a_tree_that_changes_under_the_copy(scene: &Scene) {
    let secret = scene.dir().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    let source = scene.dir().join("source");
    std::fs::create_dir_all(source.join("a/b/c")).unwrap();
    std::fs::write(source.join("a/b/c/f"), "f").unwrap();
    play(scene, async |supervisor| {
        let place = secret.display();
        let script = format!(
            "mkdir -p /tmp/t/d/e /tmp/u; echo x > /tmp/t/d/e/f
             (while :; do mv /tmp/t/d /tmp/u/d; ln -s {place} /tmp/t/d; rm /tmp/t/d; mkfifo /tmp/t/d; rm /tmp/t/d
                ln -s /proc/1/root /tmp/t/d; rm /tmp/t/d; mv /tmp/u/d /tmp/t/d; done) 2>/dev/null &
             (while :; do for x in /tmp/v/.orangery-*/a /tmp/v/*/a/b; do mv $x /tmp/u/x && ln -s {place} $x; rm -rf /tmp/u/x
                done; done) 2>/dev/null &
             mkdir /tmp/v"
        );
        let container = prepared(supervisor, Sandbox::builder(), &script).await;
        for round in 0..150 {
            let to = scene.dir().join("to");
            match container.copy_out("/tmp/t", &to, CopyOptions::default().outside_links(true)).await {
                Ok(_) => {
                    let found = names(&to);
                    let links = found.iter().filter(|path| path.is_symlink()).count();
                    assert!(found.len() <= 3 && (links == 0 || found.len() == 1), "{found:?}");
                    std::fs::remove_dir_all(&to).unwrap();
                }
                Err(error) => assert_eq!(error.field(), Some("from"), "{error}"),
            }
            let _ = container.copy_in(&source, format!("/tmp/v/{round}"), CopyOptions::default()).await;
        }
        assert_eq!(names(&secret).len(), 1, "nothing was written through a link");
        assert_eq!(std::fs::read(secret.join("key")).unwrap(), b"secret");
    });
}

fn kept_files_outlive_the_exit_until_the_container_is_deleted(scene: &Scene) {
    play(scene, async |supervisor| {
        for init in [true, false] {
            let sandbox = Sandbox::builder().id(format!("kept-{init}")).keep_files(true).init(init).build().unwrap();
            let script = "echo made > /tmp/made; mkdir /root/d; echo 2 > /root/d/2";
            let container = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).spawn().await.unwrap();
            assert!(container.wait().await.unwrap().success());
            assert_eq!(container.inspect().state, State::Kept);
            assert_eq!(container.read_file("/tmp/made", 100).await.unwrap(), Bytes::from_static(b"made\n"));
            let out = scene.dir().join(format!("out-{init}"));
            assert_eq!(container.copy_out("/root", &out, CopyOptions::default()).await.unwrap().files, 1);
            container.write_file("/tmp/after", "after", 0o600).await.unwrap();
            assert_eq!(container.read_file("/tmp/after", 100).await.unwrap(), Bytes::from_static(b"after"));
            assert_eq!(container.command("true").spawn().await.unwrap_err().kind(), ErrorKind::State);
            let taken = supervisor.command("true").sandbox(&sandbox).spawn().await.unwrap_err();
            assert_eq!(what(&taken), (ErrorKind::Exists, Some("id")));
            container.delete().await.unwrap();
            assert_eq!(container.inspect().state, State::Gone);
            assert_eq!(container.read_file("/tmp/made", 100).await.unwrap_err().kind(), ErrorKind::State);
        }
    });
}

fn kept_files_go_with_the_last_handle_and_with_the_supervisor(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().id("kept").keep_files(true).build().unwrap();
        let container = supervisor.command("true").sandbox(&sandbox).spawn().await.unwrap();
        container.wait().await.unwrap();
        drop(container);
        while !supervisor.list().await.unwrap().is_empty() {}
        let container = supervisor.command("true").sandbox(&sandbox).spawn().await.unwrap();
        container.wait().await.unwrap();
        container.delete().await.unwrap();
        // Out of its handles' hands for a while: whoever has it again at its end finds the files.
        let container = supervisor.command("cat").stdin(Stdin::Piped).sandbox(&sandbox).spawn().await.unwrap();
        let stdin = container.stdin();
        container.detach();
        let container = supervisor.container("kept").await.unwrap().unwrap();
        drop(stdin);
        container.wait().await.unwrap();
        container.read_file("/etc/passwd", 1000).await.unwrap();
        assert_eq!(supervisor.list().await.unwrap().len(), 1);
        supervisor.shutdown().await;
        assert_eq!(container.read_file("/etc/passwd", 100).await.unwrap_err().kind(), ErrorKind::ShutDown);
        container.delete().await.unwrap();
    });
}
