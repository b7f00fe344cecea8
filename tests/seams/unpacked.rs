//! Root file systems that are unpacked for a container: whose they are, and that
//! nothing is left of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_runtime::rootfs::Unpacking;
use orangery_runtime::spec::User;
use orangery_runtime::{ContainerSpec, ProcessSpec, Runtime as _};
use orangery_tests::host::command;
use orangery_tests::{Host, Scene};

/// One entry of an archive.
fn entry(name: &str, kind: u8, mode: u32, (uid, gid): (u32, u32), content: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, &format!("{uid:07o}"));
    put(116, &format!("{gid:07o}"));
    put(124, &format!("{:011o}", content.len()));
    put(136, "07000000000");
    put(148, "        ");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block.extend_from_slice(content.as_bytes());
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// The image, and over it what belongs to several users.
fn provider(scene: &Scene) -> (Unpacking, PathBuf) {
    let (image, tar, store) = (scene.image("image"), scene.dir().join("upper.tar"), scene.dir().join("roots"));
    let entries = [
        entry("data/", b'5', 0o777, (0, 0), ""),
        entry("data/secret", b'0', 0o600, (1000, 33), "the secret"),
        entry("data/closed/", b'5', 0o000, (1234, 4321), ""),
        entry("data/closed/inner/", b'5', 0o700, (1000, 33), ""),
        vec![0; 1024],
    ];
    std::fs::write(&tar, entries.concat()).expect("an archive");
    (Unpacking::from_layers(&store, [image, tar]), store)
}

fn spec(host: &Host, provider: &Unpacking) -> ContainerSpec {
    let mut spec = host.spec("unpacked");
    spec.mounts.clear();
    spec.rootfs_provider = Some(Arc::new(provider.clone()));
    spec
}

pub(crate) fn sh(script: &str, ids: (u32, u32)) -> ProcessSpec {
    let mut main = command(&["/bin/sh", "-c", script]);
    main.user = User::Ids { uid: ids.0, gid: ids.1 };
    main
}

fn is_empty(store: &Path) -> bool {
    std::fs::read_dir(store).is_ok_and(|mut entries| entries.next().is_none())
}

pub(crate) fn an_unpacked_root_has_its_owners(scene: &Scene) {
    let (provider, store) = provider(scene);
    scene.play(async |host| {
        let look = "ls -ln /data/secret; cat /data/secret; busybox mkdir /data/mine; busybox touch /data/mine/x; \
                    busybox chmod 0 /data/mine";
        let (owner, _) = host.life(spec(host, &provider), sh(look, (1000, 33))).await;
        let mut words = owner.out.split_whitespace();
        assert_eq!(
            (words.next(), words.nth(1), words.next()),
            (Some("-rw-------"), Some("1000"), Some("33")),
            "{owner:?}"
        );
        assert!(owner.out.ends_with("the secret"), "{owner:?}");
        assert!(is_empty(&store), "nothing is left, whoever's it was");
        let (other, _) = host.life(spec(host, &provider), sh("cat /data/secret", (1001, 33))).await;
        assert_ne!(other.code(), 0, "{other:?}");
        let (root, _) = host.life(spec(host, &provider), sh("cat /data/secret; ls /data/closed", (0, 0))).await;
        assert_eq!(root.out, "the secretinner\n", "{root:?}");
    });
}

pub(crate) fn what_is_left_of_an_unpacked_root(scene: &Scene) {
    let (provider, store) = provider(scene);
    // As a kill leaves it.
    std::fs::create_dir_all(store.join("killed-0123/rootfs/etc")).expect("made");
    scene.play(async |host| {
        let dropped = host.create(spec(host, &provider), sh("true", (0, 0))).await.expect("created");
        assert_eq!(std::fs::read_dir(&store).expect("listed").count(), 1, "the one that is used");
        drop(dropped);
        let mut wrong = spec(host, &provider);
        wrong.id = "wrong".into();
        wrong.hostname = Some("no host name".into());
        host.refused(wrong, sh("true", (0, 0))).await;
        host.rt.shutdown().await;
    });
    assert!(is_empty(&store));
}
