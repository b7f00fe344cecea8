//! Roots of layers in each way in which they can be made: by the kernel, by fuse-overlayfs, as a copy.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orangery_runtime::native::Options;
use orangery_runtime::rootfs::{Layering, RootKind};
use orangery_runtime::spec::{Access, Disk, Rootfs, Stdio, UserNamespace};
use orangery_runtime::{Container, ContainerSpec, ErrorKind};
use orangery_tests::host::outcome;
use orangery_tests::{Host, Scene, stock, wait};

use crate::unpacked::sh;

/// What the program is called, and its guard.
const NAMES: [&str; 2] = ["fuse-overlayfs", "orangery-root"];

fn forced(scene: &Scene, ways: &[Layering]) -> Options {
    let mut options = scene.options();
    options.layering = ways.to_vec();
    options
}

fn spec(id: &str, rootfs: Rootfs) -> ContainerSpec {
    let mut spec = ContainerSpec::default();
    spec.id = id.into();
    spec.rootfs = rootfs;
    spec.disk = Disk { bytes: 8 << 20, ..Disk::default() };
    spec
}

fn over(image: &Path) -> Rootfs {
    Rootfs::Dir { path: image.to_path_buf(), access: Access::Overlay }
}

/// Servers and guards of this trial.
fn servers() -> Vec<String> {
    let all = stock::descendants(std::process::id()).into_iter();
    all.filter(|process| process.state != 'Z' && NAMES.contains(&process.name.as_str()))
        .map(|process| process.to_string())
        .collect()
}

fn server() -> u32 {
    let all = stock::descendants(std::process::id());
    all.into_iter().find(|process| process.name == NAMES[0]).expect("it runs").pid
}

/// What can be done in such a root, whoever makes it.
const WRITING: &str = "set -e; PATH=/bin; busybox cat /etc/marker; echo changed > /etc/marker; busybox cat /etc/marker
    busybox rm /gone; ! busybox test -e /gone; busybox mkdir /gone; busybox rmdir /gone
    busybox mkdir -p /a/b; echo 1 > /a/b/c; busybox mv /a /new; busybox cat /new/b/c
    busybox ln -s new/b link; busybox cat link/c; busybox ln /new/b/c /new/hard; busybox chmod 600 /etc/marker
    busybox stat -c %a /etc/marker
    busybox cp /bin/busybox /busybox.2; /busybox.2 echo runs
    ! busybox dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null; busybox rm /big; echo end";

const WRITTEN: &str = "the imagechanged\n1\n1\n600\nruns\nend\n";

/// As often as there are ways; the directory stays as it was.
fn is_written_and_thrown_away(scene: &Scene, way: Layering, kind: RootKind) {
    let image = scene.image("image");
    std::fs::write(image.join("gone"), "").expect("written");
    std::fs::write(image.join("secret"), "the secret").expect("written");
    for (name, mode) in [("secret", 0o600), ("tmp", 0o1777)] {
        std::fs::set_permissions(image.join(name), Permissions::from_mode(mode)).expect("its mode");
    }
    scene.play_with(forced(scene, &[way]), async |host| {
        let container = host.create(spec("written", over(&image)), sh(WRITING, (0, 0))).await.expect("created");
        let told = container.root_way().expect("it is told");
        assert_eq!((told.kind, told.why.as_deref()), (kind, None), "{told}");
        let seen = outcome(container.start().await.expect("started")).await;
        assert_eq!(seen.out, WRITTEN, "{}", seen.err);
        assert_eq!(servers().len(), if kind == RootKind::FuseOverlayfs { 2 } else { 0 });
        wait::soon("delete", container.delete()).await.expect("deleted");
        assert_eq!(servers(), Vec::<String>::new());
        if host.root() {
            // Rights are those of the files, whoever makes the root.
            let other = "busybox cat /secret 2>/dev/null && echo read; echo 1 > /tmp/x; busybox stat -c %u:%g /tmp/x";
            let seen = host.once(spec("other", over(&image)), sh(other, (1000, 33))).await;
            assert_eq!(seen.out, "1000:33\n", "{}", seen.err);
        }
        // Several layers, of which the uppermost hides what is below.
        let top = scene.dir().join("top");
        std::fs::create_dir_all(top.join("etc")).expect("made");
        std::fs::write(top.join("etc/marker"), "above\n").expect("written");
        for access in [Access::Overlay, Access::ReadOnly] {
            let layers = Rootfs::Layers { lower: vec![top.clone(), image.clone()], access };
            let script = "busybox cat /etc/marker; busybox touch /gone 2>/dev/null && echo written";
            let seen = host.once(spec("layers", layers), sh(script, (0, 0))).await;
            let expected = if access == Access::Overlay { "above\nwritten\n" } else { "above\n" };
            assert_eq!(seen.out, expected, "{}", seen.err);
        }
        // A creation that is given up, and one that fails later.
        let given_up = host.create(spec("dropped", over(&image)), sh("true", (0, 0))).await.expect("created");
        drop(given_up);
        let mut wrong = spec("wrong", over(&image));
        wrong.hostname = Some("no host name".into());
        host.refused(wrong, sh("true", (0, 0))).await;
    });
    assert_eq!(std::fs::read_to_string(image.join("etc/marker")).expect("read"), "the image");
    assert_eq!(servers(), Vec::<String>::new());
}

pub(crate) fn layers_in_an_overlay(scene: &Scene) {
    is_written_and_thrown_away(scene, Layering::Overlay, RootKind::Overlay);
}

pub(crate) fn layers_by_fuse_overlayfs(scene: &Scene) {
    is_written_and_thrown_away(scene, Layering::FuseOverlayfs, RootKind::FuseOverlayfs);
}

pub(crate) fn layers_in_a_copy(scene: &Scene) {
    is_written_and_thrown_away(scene, Layering::Copy, RootKind::Copy);
}

async fn waiting(host: &Host, id: &str, image: &Path) -> Box<dyn Container> {
    let mut reads = sh("read x; busybox cat /etc/marker; echo $?", (0, 0));
    reads.stdin = Stdio::Piped;
    host.create(spec(id, over(image)), reads).await.expect("created")
}

/// Killed it is told, and what the container does with a file fails; stopped it holds up nobody who ends the container.
pub(crate) fn a_server_that_is_killed_or_stopped(scene: &Scene) {
    let image = scene.image("image");
    scene.play_with(forced(scene, &[Layering::FuseOverlayfs]), async |host| {
        let container = waiting(host, "killed", &image).await;
        let mut started = container.start().await.expect("started");
        let lost = container.root_lost();
        wait::kill(wait::pidfd(server()));
        let why = wait::soon("the loss", lost).await;
        assert!(why.contains("signal 9"), "{why}");
        drop(started.stdin.take());
        let seen = outcome(started).await;
        assert!(seen.out.is_empty() || seen.code() != 0, "{seen:?}");
        wait::soon("delete", container.delete()).await.expect("deleted");
        let container = waiting(host, "stopped", &image).await;
        let started = container.start().await.expect("started");
        let stopped = wait::pidfd(server());
        rustix::process::pidfd_send_signal(&stopped, rustix::process::Signal::STOP).expect("stopped");
        let mut lost = container.root_lost();
        drop(started);
        wait::soon("delete", container.delete()).await.expect("deleted");
        let soon = tokio::time::timeout(Duration::from_millis(20), &mut lost).await;
        assert!(soon.is_err(), "the end of a container is no loss: {soon:?}");
        assert_eq!(servers(), Vec::<String>::new());
    });
}

pub(crate) fn a_copy_that_does_not_fit_is_refused(scene: &Scene) {
    let image = scene.image("image");
    scene.play_with(forced(scene, &[Layering::Copy]), async |host| {
        let mut small = spec("small", over(&image));
        small.disk.bytes = 64 << 10;
        let errors = host.refused(small, sh("true", (0, 0))).await;
        let error = &errors.0[0];
        assert_eq!((error.kind(), error.field()), (ErrorKind::Exhausted, Some("disk")), "{error}");
        assert!(error.hint().is_some(), "{error}");
    });
}

/// Overlays over overlays; unmounted when they are dropped.
struct Overlays(Vec<PathBuf>);

impl Overlays {
    /// Two deep, which is the most that there may be.
    fn set(scene: &Scene, image: &Path) -> (Self, PathBuf) {
        let (mut overlays, mut lower) = (Self(Vec::new()), image.to_path_buf());
        for name in ["one", "two"] {
            let at = scene.dir().join(name);
            let merged = at.join("merged");
            std::fs::create_dir_all(&merged).expect("made");
            nix::mount::mount(Some("tmpfs"), &at, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
                .expect("a tmpfs");
            overlays.0.push(at.clone());
            for part in ["upper", "work", "merged"] {
                std::fs::create_dir(at.join(part)).expect("made");
            }
            let (lower_dir, at) = (lower.display(), at.display());
            let options = format!("lowerdir={lower_dir},upperdir={at}/upper,workdir={at}/work");
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str()))
                .expect("an overlay");
            overlays.0.push(merged.clone());
            lower = merged;
        }
        (overlays, lower)
    }
}

impl Drop for Overlays {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

pub(crate) fn the_next_way_is_gone_where_one_cannot_be(scene: &Scene) {
    let image = scene.image("image");
    let (overlays, lower) = Overlays::set(scene, &image);
    let nested = |id: &str| {
        let mut spec = spec(id, over(&lower));
        spec.user_namespace = UserNamespace::Host;
        spec
    };
    let made = async |host: &Host, spec: ContainerSpec| {
        let script = "echo changed > /etc/marker; busybox cat /etc/marker";
        let container = host.create(spec, sh(script, (0, 0))).await.expect("created");
        assert_eq!(outcome(container.start().await.expect("started")).await.out, "changed\n");
        let way = container.root_way().expect("it is told");
        container.delete().await.expect("deleted");
        (way.kind, way.why.unwrap_or_default())
    };
    scene.play(async |host| {
        let (kind, why) = made(host, nested("next")).await;
        assert!(kind == RootKind::Copy && why.contains("would be root of this machine"), "{kind:?}: {why}");
        // Ids of its own cannot be mapped on an overlay; on what it is copied to they can.
        let (kind, why) = made(host, spec("mapped", over(&lower))).await;
        assert!(kind == RootKind::Copy && why.contains("no fuse-overlayfs: "), "{kind:?}: {why}");
    });
    let without = [Layering::Overlay, Layering::Copy];
    scene.play_with(forced(scene, &without), async |host| {
        let (kind, why) = made(host, nested("next")).await;
        assert!(kind == RootKind::Copy && why.contains("no overlay: "), "{kind:?}: {why}");
    });
    scene.play_with(forced(scene, &[Layering::Overlay]), async |host| {
        let errors = host.refused(nested("next"), sh("true", (0, 0))).await;
        assert_eq!(errors.0[0].field(), Some("rootfs"), "{errors}");
    });
    drop(overlays);
}
