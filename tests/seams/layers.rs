//! Root file systems of several layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_runtime::spec::{Access, Rootfs, User};
use orangery_runtime::{ContainerSpec, ErrorKind, ProcessSpec};
use orangery_tests::host::{command, probe};
use orangery_tests::{Host, Scene};

/// A spec whose root is these layers; the probe and busybox are in the lowest.
pub(crate) fn layered(host: &Host, lower: &[PathBuf], access: Access) -> ContainerSpec {
    let mut spec = host.spec("layers");
    spec.mounts.clear();
    spec.rootfs = Rootfs::Layers { lower: lower.to_vec(), access };
    spec
}

fn layer(scene: &Scene, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = scene.dir().join(name);
    fs::create_dir(&dir).expect("a layer");
    for (path, text) in files {
        fs::create_dir_all(dir.join(path).parent().expect("a parent")).expect("a directory");
        fs::write(dir.join(path), text).expect("a file");
    }
    dir
}

/// What overlayfs takes for "not there": a character device 0:0. An ordinary user may make that one, too.
fn whiteout(path: &Path) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("a whiteout");
}

fn sh(script: &str) -> ProcessSpec {
    let mut process = command(&["/bin/sh", "-c", script]);
    process.env = vec![("PATH".into(), "/bin".into())];
    process
}

pub(crate) fn two_layers_with_whiteouts_and_order(scene: &Scene) {
    let image = scene.image("image");
    fs::write(image.join("etc/below"), "below").expect("a file");
    fs::create_dir(image.join("etc/dir")).expect("a directory");
    let upper = layer(scene, "upper", &[("etc/marker", "above"), ("etc/new", "new")]);
    whiteout(&upper.join("etc/below"));
    whiteout(&upper.join("etc/dir"));
    let look = "cat /etc/marker /etc/new; ls -d /etc/below /etc/dir 2>/dev/null; true";
    scene.play(async |host| {
        let both = [upper.clone(), image.clone()];
        let looked = host.once(layered(host, &both, Access::ReadOnly), sh(look)).await;
        assert_eq!(looked.out, "abovenew", "{looked:?}");
        let swapped = [image.clone(), upper.clone()];
        let looked = host.once(layered(host, &swapped, Access::ReadOnly), sh(look)).await;
        assert_eq!(looked.out, "the imagenew/etc/below\n/etc/dir\n", "{looked:?}");
        // Nothing is written through or over.
        let written = host.once(layered(host, &both, Access::ReadOnly), sh("echo x > /etc/marker")).await;
        assert_ne!(written.code(), 0);
        // One layer is a directory.
        let looked = host.once(layered(host, &both[1..], Access::ReadOnly), sh("cat /etc/marker")).await;
        assert_eq!(looked.out, "the image");
    });
}

pub(crate) fn layers_are_read_through_and_written_over(scene: &Scene) {
    let image = scene.image("image");
    let passwd = "root:x:0:0::/:/bin/sh\nupper:x:0:0::/:/bin/sh\n";
    let upper = layer(scene, "upper", &[("etc/marker", "above"), ("etc/passwd", passwd)]);
    scene.play(async |host| {
        let spec = layered(host, &[upper.clone(), image.clone()], Access::Overlay);
        // The user is looked up in the uppermost layer that has the file.
        let mut main = sh("echo changed > /etc/marker; echo more > /etc/more; cat /etc/marker /etc/more");
        main.user = User::Name("upper".into());
        let (changed, _) = host.life(spec, main).await;
        assert_eq!(changed.out, "changed\nmore\n", "{changed:?}");
        let mut main = probe(&["true"]);
        main.user = User::Name("builder".into());
        let errors = host.refused(layered(host, &[upper.clone(), image.clone()], Access::Overlay), main).await;
        assert_eq!(errors.0[0].field(), Some("user"), "{errors:?}");
    });
    assert_eq!(fs::read_to_string(upper.join("etc/marker")).expect("read"), "above");
    assert!(!image.join("etc/more").exists() && !upper.join("etc/more").exists());
}

pub(crate) fn sixty_four_layers(scene: &Scene) {
    let mut lower: Vec<PathBuf> = (0..63)
        .map(|n| {
            let text = n.to_string();
            layer(scene, &format!("layer{n}"), &[("top", &text), (&format!("numbers/{n}"), &text)])
        })
        .collect();
    lower.push(scene.image("image"));
    assert_eq!(lower.len(), Rootfs::MAX_LAYERS);
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay] {
            let looked = host.once(layered(host, &lower, access), sh("cat /top; echo; ls /numbers")).await;
            let mut lines = looked.out.lines();
            assert_eq!(lines.next(), Some("0"), "{looked:?}");
            assert_eq!(lines.count(), 63, "{looked:?}");
        }
    });
}

/// Detached mounts instead of paths: what a provider with rights of its own gives.
pub(crate) fn mounts_are_layers_too(scene: &Scene) {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let image = scene.image("image");
    let upper = layer(scene, "upper", &[("etc/marker", "above")]);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = |path: &Path| Arc::new(open_tree(rustix::fs::CWD, path, flags).expect("a tree"));
    scene.play(async |host| {
        for layers in [&[&image][..], &[&upper, &image]] {
            for access in [Access::ReadOnly, Access::Overlay] {
                let mut spec = layered(host, &[], access);
                spec.root_mounts = layers.iter().map(|path| tree(path)).collect();
                let looked = host.once(spec, sh("cat /etc/marker; id -u")).await;
                let marker = if layers.len() == 1 { "the image" } else { "above" };
                assert_eq!(looked.out, format!("{marker}0\n"), "{looked:?}");
            }
        }
        let mut spec = layered(host, std::slice::from_ref(&image), Access::ReadOnly);
        spec.root_mounts = vec![tree(&image)];
        assert_eq!(host.refused(spec, probe(&["true"])).await.0[0].field(), Some("root_mounts"));
        let mut spec = host.spec("none");
        spec.root_mounts = vec![tree(&image)];
        assert_eq!(host.refused(spec, probe(&["true"])).await.0[0].field(), Some("root_mounts"));
    });
}

pub(crate) fn missing_and_too_many_layers_are_named(scene: &Scene) {
    let good = layer(scene, "good", &[]);
    let file = scene.dir().join("file");
    fs::write(&file, "").expect("a file");
    symlink("/no/such", scene.dir().join("dangling")).expect("a link");
    let many: Vec<PathBuf> = (0..65).map(|_| good.clone()).collect();
    let (missing, dangling) = (scene.dir().join("missing"), scene.dir().join("dangling"));
    scene.play(async |host| {
        let refused = async |lower: &[PathBuf], access: Access| {
            let errors = host.refused(layered(host, lower, access), probe(&["true"])).await;
            (errors.0[0].kind(), errors.0[0].field().unwrap_or_default().to_owned())
        };
        let named = |kind: ErrorKind, field: &str| (kind, field.to_owned());
        let over = Access::Overlay;
        assert_eq!(refused(&[good.clone(), missing], over).await, named(ErrorKind::NotFound, "rootfs.lower[1]"));
        assert_eq!(refused(&[dangling, good.clone()], over).await, named(ErrorKind::NotFound, "rootfs.lower[0]"));
        assert_eq!(refused(&[good.clone(), file], over).await, named(ErrorKind::Invalid, "rootfs.lower[1]"));
        assert_eq!(refused(&[], over).await, named(ErrorKind::Invalid, "rootfs.lower"));
        assert_eq!(refused(&many, over).await, named(ErrorKind::Invalid, "rootfs.lower"));
        let two = [good.clone(), good.clone()];
        assert_eq!(refused(&two, Access::ReadWrite).await, named(ErrorKind::Invalid, "rootfs.access"));
        // Nothing to mount on, and nothing can be made.
        assert_eq!(refused(&two, Access::ReadOnly).await, named(ErrorKind::Invalid, "rootfs"));
    });
}
