//! Names that are exchanged for links while a container is made.

use std::fs;

use orangery_runtime::spec::Access;
use orangery_tests::Scene;
use orangery_tests::host::{outcome, probe, see};
use orangery_tests::swap::Swapper;

use crate::{bind, imaged};

/// CVE-2021-30465: the target is a directory when it is looked at and a link when it is mounted on.
pub(crate) fn a_mount_target_swapped_during_the_creation(scene: &Scene) {
    let (image, data, outside) = (scene.image("image"), scene.dir().join("data"), scene.dir().join("outside"));
    fs::create_dir(&data).expect("data");
    fs::write(data.join("mark"), "data").expect("mark");
    fs::create_dir(&outside).expect("outside");
    let (mut made, mut refused) = (0, 0);
    scene.play(async |host| {
        for access in [Access::ReadWrite, Access::Overlay, Access::ReadOnly] {
            let swapper = Swapper::start(image.clone(), "target", outside.clone());
            for _ in 0..40 {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind(&data, "/target"));
                spec.mounts.push(bind(&data, "/target/deeper"));
                spec.mounts.pop();
                match host.create(spec, see(&["/target/mark", "/target"])).await {
                    Ok(container) => {
                        let started = container.start().await.expect("started");
                        let seen = outcome(started).await.json();
                        // Whatever /target is by now, the host's directory is not reachable through it.
                        assert_ne!(seen["paths"]["/target/mark"]["content"], "outside");
                        container.delete().await.expect("deleted");
                        made += 1;
                    }
                    Err(errors) => {
                        let error = &errors.0[0];
                        assert_eq!(error.field(), Some("mounts"), "{error:?}");
                        assert!(
                            matches!(error.errno(), Some(libc::ELOOP | libc::EXDEV | libc::ENOTDIR | libc::ENOENT)),
                            "{error:?}"
                        );
                        refused += 1;
                    }
                }
                assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "something was made outside");
            }
            assert!(swapper.stop() > 100);
        }
    });
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: the race was not run");
}

/// The copy that becomes read-only is of what was opened: a name that is a link by then would lead to the host's files.
pub(crate) fn a_read_only_path_swapped_during_the_creation(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("mark"), "of the host").expect("mark");
    let (mut made, mut refused) = (0, 0);
    scene.play(async |host| {
        let swapper = Swapper::start(image.clone(), "target", outside.clone());
        for _ in 0..150 {
            let mut spec = imaged(host, &image, Access::ReadWrite);
            spec.readonly_paths = vec!["/target".into()];
            // Wherever the directory is by now, what lies on it came along.
            match host.create(spec, see(&["/target/mark", "/the-link/mark"])).await {
                Ok(container) => {
                    let seen = outcome(container.start().await.expect("started")).await.json();
                    for path in ["/target/mark", "/the-link/mark"] {
                        assert_ne!(seen["paths"][path]["content"], "of the host", "{path}");
                    }
                    container.delete().await.expect("deleted");
                    made += 1;
                }
                Err(errors) => {
                    let error = &errors.0[0];
                    assert_eq!(
                        (error.field(), error.errno()),
                        (Some("readonly_paths"), Some(libc::ELOOP)),
                        "{error:?}"
                    );
                    refused += 1;
                }
            }
        }
        assert!(swapper.stop() > 100);
    });
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: the race was not run");
}

pub(crate) fn a_mount_point_is_not_made_outside(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    scene.play(async |host| {
        for access in [Access::ReadWrite, Access::Overlay] {
            let swapper = Swapper::start(image.clone(), "way", outside.clone());
            for n in 0..40 {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind("/usr", &format!("/way/point-{n}/deep")));
                if let Ok(container) = host.create(spec, probe(&["true"])).await {
                    container.delete().await.expect("deleted");
                }
            }
            swapper.stop();
        }
    });
    let found: Vec<_> = fs::read_dir(&outside).expect("outside").flatten().map(|entry| entry.path()).collect();
    assert!(found.is_empty(), "made outside: {found:?}");
}
