//! Images that lie: links, files and loops where directories belong, devices and files of /proc that are fakes.

use std::fs;
use std::os::unix::fs::symlink;

use orangery_runtime::spec::{Access, User};
use orangery_runtime::{ErrorKind, Runtime as _};
use orangery_tests::Scene;
use orangery_tests::host::{probe, see};

use crate::{bind, imaged};

pub(crate) fn a_mount_target_that_leads_outside(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    symlink(&outside, image.join("absolute")).expect("a link");
    symlink("../outside", image.join("relative")).expect("a link");
    symlink("/proc/self/root", image.join("magic")).expect("a link");
    symlink("loop", image.join("loop")).expect("a link");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for target in [
                "/absolute",
                "/relative",
                "/magic",
                "/loop",
                "/absolute/x",
                "/magic/tmp",
                "/proc/1/root",
                "/proc/self/cwd",
                "/proc/self/fd/0",
            ] {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind("/usr", target));
                let errors = host.refused(spec, probe(&["true"])).await;
                assert_eq!(errors.0[0].field(), Some("mounts"), "{target} {access:?}: {errors:?}");
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

/// CVE-2023-28642 and others: what is mounted on must be a directory of the image.
pub(crate) fn proc_sys_and_dev_as_links_files_and_loops(scene: &Scene) {
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).expect("outside");
    scene.play(async |host| {
        for name in ["proc", "sys", "dev", "run"] {
            for kind in ["absolute", "relative", "loop", "file", "inside"] {
                let image = scene.image(&format!("image-{name}-{kind}"));
                let place = image.join(name);
                fs::remove_dir(&place).expect("removed");
                match kind {
                    "absolute" => symlink(&outside, &place).expect("a link"),
                    "relative" => symlink("../outside", &place).expect("a link"),
                    "loop" => symlink(name, &place).expect("a link"),
                    "inside" => symlink("tmp", &place).expect("a link"),
                    _ => fs::write(&place, "not a directory").expect("a file"),
                }
                for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
                    let errors = host.refused(imaged(host, &image, access), probe(&["true"])).await;
                    let error = &errors.0[0];
                    assert!(
                        matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Creation),
                        "/{name} as {kind} {access:?}: {error:?}"
                    );
                }
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

/// CVE-2025-31133: masks come from the host's /dev/null, not from the image's.
pub(crate) fn a_fake_null_in_the_image(scene: &Scene) {
    let image = scene.image("image");
    for name in ["null", "zero", "tty"] {
        fs::write(image.join("dev").join(name), "fake").expect("a fake");
    }
    symlink("/etc", image.join("dev/pts")).expect("a link");
    symlink("/etc", image.join("dev/shm")).expect("a link");
    fs::write(image.join("etc/secret"), "secret").expect("a secret");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let mut spec = imaged(host, &image, access);
            spec.masked_paths = vec!["/etc/secret".into()];
            let seen = host.once(spec, see(&["/etc/secret", "/dev/null", "/dev/pts", "/proc/kcore"])).await.json();
            assert_eq!(
                (&seen["paths"]["/etc/secret"]["content"], &seen["paths"]["/dev/null"]["content"]),
                (&"1:3".into(), &"1:3".into()),
                "{access:?}"
            );
            assert_eq!(seen["paths"]["/dev/pts"]["kind"], "dir", "{access:?}");
        }
    });
    assert_eq!(fs::read_to_string(image.join("dev/null")).expect("the fake"), "fake");
}

pub(crate) fn a_fake_proc_in_the_image(scene: &Scene) {
    let image = scene.image("image");
    for dir in ["proc/self", "proc/sys/net/ipv4", "proc/1"] {
        fs::create_dir_all(image.join(dir)).expect("a fake");
    }
    let fakes =
        ["proc/self/oom_score_adj", "proc/sys/net/ipv4/ip_default_ttl", "proc/self/uid_map", "proc/self/setgroups"];
    for fake in fakes {
        fs::write(image.join(fake), "fake").expect("a fake");
    }
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let mut spec = imaged(host, &image, access);
            spec.sysctls.insert("net.ipv4.ip_default_ttl".into(), "33".into());
            let mut main = see(&["/proc/sys/net/ipv4/ip_default_ttl"]);
            main.oom_score_adj = Some(700);
            let seen = host.once(spec, main).await.json();
            assert_eq!(
                (&seen["oom_score_adj"], &seen["paths"]["/proc/sys/net/ipv4/ip_default_ttl"]["content"]),
                (&"700".into(), &"33\n".into())
            );
        }
    });
    for fake in fakes {
        assert_eq!(fs::read_to_string(image.join(fake)).expect("a fake"), "fake", "{fake}");
    }
}

pub(crate) fn hostile_passwd_and_group_files(scene: &Scene) {
    let image = scene.image("image");
    let outside = scene.dir().join("passwd");
    fs::write(&outside, "victim:x:42:42::/:/bin/sh\n").expect("outside");
    scene.play(async |host| {
        let ask = async |user: &str| {
            let mut main = probe(&["true"]);
            main.user = User::Name(user.into());
            host.rt.check(&imaged(host, &image, Access::ReadOnly), &main)
        };
        let put = |kind: &str| {
            let _ = fs::remove_file(image.join("etc/passwd"));
            let _ = fs::remove_dir(image.join("etc/passwd"));
            match kind {
                "link" => symlink(&outside, image.join("etc/passwd")).expect("a link"),
                "fifo" => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    image.join("etc/passwd"),
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .expect("a fifo"),
                "dir" => fs::create_dir(image.join("etc/passwd")).expect("a directory"),
                "proc" => symlink("/proc/self/environ", image.join("etc/passwd")).expect("a link"),
                _ => fs::write(image.join("etc/passwd"), vec![b'a'; 5 << 20]).expect("a large file"),
            }
        };
        for kind in ["link", "fifo", "dir", "proc", "large"] {
            put(kind);
            let errors = ask("victim").await.expect_err("unknown");
            assert_eq!(errors.0[0].field(), Some("user"), "{kind}: {errors:?}");
        }
    });
}
