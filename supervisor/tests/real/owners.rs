//! Files of a container that belong to a user of it who is nobody outside. Root becomes that user for a moment; for an
//! ordinary user with a range of ids a child of the keeper, the hand, is that user.

use std::path::Path;

use bytes::Bytes;
use orangery::{Budget, ContainerHandle, CopyOptions, ErrorKind, Sandbox, SkipReason, State, Supervisor, User};
use orangery_tests::stock::descendants;
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_hand_goes_with_its_job, ManyIds),
        trial!(kept_files_of_a_user, ManyIds),
        trial!(a_user_is_no_way_out, ManyIds),
    ]
}

const USER: User = User::Ids { uid: 1234, gid: 1234 };

async fn idle(supervisor: &Supervisor) -> ContainerHandle {
    supervisor.command("sleep").arg("1000").user(USER).spawn().await.unwrap()
}

/// What a process of this user says.
async fn said(container: &ContainerHandle, user: User, script: &str) -> String {
    let process = container.command("sh").arg("-ec").arg(script).user(user).spawn().await.unwrap();
    let all = process.output().collect(10_000).await.to_vec();
    String::from_utf8(all).unwrap()
}

fn hands() -> usize {
    descendants(std::process::id()).iter().filter(|process| process.name == "orangery-hand").count()
}

/// All that a job had is given back.
async fn over(supervisor: &Supervisor, before: u64) {
    let none = async {
        while hands() > 0 || supervisor.budgets().of(Budget::Descriptors).used > before {
            tokio::task::yield_now().await;
        }
    };
    wait::soon("the end of a job and of its hand", none).await;
}

/// So many that a copy of them is seen.
const FILES: u32 = 1500;

fn a_hand_goes_with_its_job(scene: &Scene) {
    let source = scene.dir().join("source");
    std::fs::create_dir(&source).unwrap();
    for number in 0..FILES {
        std::fs::write(source.join(number.to_string()), "x").unwrap();
    }
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let used = || supervisor.budgets().of(Budget::Descriptors).used;
        let before = used();
        container.write_file("/home/user/one", "1", 0o640).await.unwrap();
        assert_eq!(container.read_file("/home/user/one", 1).await.unwrap(), Bytes::from_static(b"1"));
        assert_eq!(said(&container, USER, "stat -c %a:%u:%g /home/user/one").await, "640:1234:1234\n");
        over(supervisor, before).await;

        // Given up in the middle: with the hand, everything that was copied goes.
        let most = before + if scene.root() { 8 } else { 12 };
        loop {
            let mut copy = Box::pin(container.copy_in(&source, "/home/user/all", CopyOptions::default()));
            let begun = async {
                while used() < most || (!scene.root() && hands() == 0) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = wait::soon("a hand", begun) => break,
                done = &mut copy => drop(done.unwrap()),
            }
            // It was over before we have looked: once more.
            said(&container, USER, "rm -r /home/user/all").await;
        }
        over(supervisor, before).await;
        let left = said(&container, USER, "cd /home/user; ls -A; [ ! -d all ] || ls -A all | wc -l").await;
        assert!(left == "one\n" || left == format!("all\none\n{FILES}\n"), "neither nothing nor all of it: {left}");
        container.delete().await.unwrap();
    });
}

/// Nobody of the container is there any more, whose namespaces a hand could enter.
fn kept_files_of_a_user(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().id("kept").keep_files(true).build().unwrap();
        let script = "mkdir /home/user/d; echo made > /home/user/d/made";
        let container =
            supervisor.command("sh").arg("-ec").arg(script).user(USER).sandbox(&sandbox).spawn().await.unwrap();
        assert!(container.wait().await.unwrap().success());
        assert_eq!(container.inspect().state, State::Kept);
        assert_eq!(container.read_file("/home/user/d/made", 100).await.unwrap(), Bytes::from_static(b"made\n"));
        let out = scene.dir().join("out");
        assert_eq!(container.copy_out("/home/user", &out, CopyOptions::default()).await.unwrap().files, 1);
        container.copy_in(&out, "/home/user/again", CopyOptions::default()).await.unwrap();
        assert_eq!(container.read_file("/home/user/again/d/made", 100).await.unwrap(), Bytes::from_static(b"made\n"));
        container.delete().await.unwrap();
    });
}

/// A link of that user leads nowhere outside, though everybody may read what it names there; and what belongs to a third
/// user of the container stays that user's.
fn a_user_is_no_way_out(scene: &Scene) {
    let secret = scene.dir().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    play(scene, async |supervisor| {
        let container = idle(supervisor).await;
        let place = secret.display();
        let links = format!(
            "cd /home/user; ln -s {place}/key file; ln -s {place} dir; ln -s ../../../../..{place} up
             ln -s /proc/self/root/{place} proc; mkdir t; echo x > t/file; chmod 0 t/file"
        );
        assert_eq!(said(&container, USER, &links).await, "");
        for path in ["file", "dir/key", "up/key", "proc/key"].map(|name| Path::new("/home/user").join(name)) {
            let error = container.read_file(&path, 100).await.unwrap_err();
            assert_eq!(error.field(), Some("path"), "{}: {error}", path.display());
            let error = container.copy_in(&secret, path.join("x"), CopyOptions::default()).await.unwrap_err();
            assert_eq!(error.field(), Some("to"), "{}: {error}", path.display());
        }
        assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);

        said(&container, User::Root, "mkdir -m 1777 /tmp/open").await;
        let third = User::Ids { uid: 777, gid: 777 };
        said(&container, third, "umask 077; echo third > /tmp/open/file; mkdir /tmp/open/dir").await;
        let error = container.read_file("/tmp/open/file", 100).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Permission, Some("path")), "{error}");
        let error = container.write_file("/tmp/open/dir/x", "", 0o600).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Permission, Some("path")), "{error}");
        let copied = container.copy_out("/tmp/open", scene.dir().join("out"), CopyOptions::default()).await.unwrap();
        assert_eq!((copied.files, copied.skipped.len()), (0, 2), "{copied:?}");
        assert!(copied.skipped.iter().all(|skipped| skipped.reason == SkipReason::Unreadable), "{copied:?}");
        // The user's own, closed to the user as well: whoever owns it could open it, and has not.
        let error = container.read_file("/home/user/t/file", 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        container.delete().await.unwrap();
    });
}
