//! What is written for a container before it starts lands nowhere else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use orangery_runtime::Runtime as _;
use orangery_runtime::spec::{Access, StagedFile, UserNamespace};
use orangery_tests::Scene;
use orangery_tests::host::{command, probe, see};

use crate::{bind, imaged};

/// What is accepted is there: in the private directories of each root; elsewhere it is refused by field.
pub(crate) fn staged_files_are_there_in_every_root(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for path in ["/tmp/in/file", "/run/in/file", "/in/file", "/etc/file", "/var/file"] {
                let mut spec = imaged(host, &image, access);
                spec.files.push(StagedFile { path: path.into(), content: b"staged".as_slice().into(), mode: 0o644 });
                let main = see(&[path]);
                match host.rt.check(&spec, &main) {
                    Ok(()) => assert_eq!(
                        host.once(spec, main).await.json()["paths"][path]["content"],
                        "staged",
                        "{path} {access:?}"
                    ),
                    Err(errors) => {
                        assert!(!path.starts_with("/run") && errors.0[0].field() == Some("files[0].path"), "{errors:?}")
                    }
                }
            }
        }
    });
}

/// The allow-list shows the host's /usr: a file that is staged there must be refused, not written through.
pub(crate) fn staged_files_never_reach_the_hosts_trees(scene: &Scene) {
    let name = format!("orangery-staged-{}", std::process::id());
    let kinds = [UserNamespace::Own, UserNamespace::Host];
    let mut written = Vec::new();
    scene.play(async |host| {
        for kind in kinds.into_iter().take(if host.root() { 2 } else { 1 }) {
            for dir in ["/usr", "/usr/lib", "/bin", "/lib", "/sbin", "/etc/ssl/certs", "/etc/alternatives", "/opt"] {
                let path = Path::new(dir).join(&name);
                let mut spec = host.spec("stage");
                spec.user_namespace = kind;
                spec.host_opt = true;
                spec.files.push(StagedFile { path: path.clone(), content: b"staged".as_slice().into(), mode: 0o644 });
                match host.create(spec, probe(&["true"])).await {
                    Ok(container) => container.delete().await.expect("deleted"),
                    Err(errors) => {
                        assert!(matches!(errors.0[0].field(), Some("files" | "files[0].path")), "{path:?}: {errors:?}")
                    }
                }
                if fs::remove_file(&path).is_ok() {
                    written.push(path);
                }
            }
        }
    });
    assert!(written.is_empty(), "written on the host: {written:?}");
}

/// The same for mount points.
pub(crate) fn mount_points_are_never_made_in_the_hosts_trees(scene: &Scene) {
    let name = format!("orangery-point-{}", std::process::id());
    let mut made = Vec::new();
    scene.play(async |host| {
        for dir in ["/usr", "/usr/lib", "/bin", "/etc/ssl/certs", "/etc/alternatives", "/opt"] {
            let path = Path::new(dir).join(&name);
            let mut spec = host.spec("point");
            if host.root() {
                spec.user_namespace = UserNamespace::Host;
            }
            spec.host_opt = true;
            spec.mounts.push(bind("/var", path.to_str().expect("a path")));
            if let Ok(container) = host.create(spec, probe(&["true"])).await {
                container.delete().await.expect("deleted");
            }
            if fs::remove_dir(&path).is_ok() {
                made.push(path);
            }
        }
    });
    assert!(made.is_empty(), "made on the host: {made:?}");
}

/// Root of the host's ids owns the host's devices, which stand for what is masked, for those of /dev, and for a stream that is not there.
/// The mode that is set is the one that they have: where it can be set, nothing is lost but this trial.
pub(crate) fn devices_of_the_host_stay_as_they_are(scene: &Scene) {
    const CHANGE: &str = r#"for file in /proc/interrupts /dev/null /dev/zero /dev/stdin; do
            mode=$(stat -L -c %a $file) || echo "no $file"
            ! chmod $mode $file 2>/dev/null || echo "changed $file"
        done
        echo x >/dev/null && head -c 3 /dev/zero | wc -c"#;
    scene.play(async |host| {
        let mut spec = host.spec("devices");
        spec.user_namespace = UserNamespace::Host;
        assert_eq!(host.once(spec, command(&["sh", "-c", CHANGE])).await.out, "3\n");
    });
}

pub(crate) fn staged_files_follow_no_links(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).expect("its mode");
    symlink(&outside, image.join("tmp/way")).expect("a link");
    symlink(outside.join("file"), image.join("tmp/file")).expect("a link");
    symlink(&outside, image.join("etc/way")).expect("a link");
    symlink("../../outside", image.join("etc/back")).expect("a link");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for path in ["/tmp/way/x", "/tmp/file", "/etc/way/x", "/etc/back/x"] {
                let mut spec = imaged(host, &image, access);
                spec.files.push(StagedFile { path: path.into(), content: b"staged".as_slice().into(), mode: 0o644 });
                if let Ok(container) = host.create(spec, probe(&["true"])).await {
                    container.delete().await.expect("deleted");
                }
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "a staged file went outside");
}
