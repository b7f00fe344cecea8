//! Hostile words in each field, and too much of everything.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

use orangery_runtime::spec::{Mount, MountSource, StagedFile, User};
use orangery_runtime::{ContainerSpec, ProcessSpec, Runtime as _};
use orangery_tests::Scene;
use orangery_tests::host::probe;

use crate::bind;

pub(crate) fn users_are_parsed_strictly(scene: &Scene) {
    scene.play(async |host| {
        for user in [
            "",
            ":",
            "0:",
            ":0",
            "-1",
            "+1",
            " 0",
            "0 ",
            "00",
            "0x0",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "0:4294967295",
            "a b",
            "root\n",
            "root\0",
            "root:root:root",
            "nobody-of-this-name",
            "../root",
            "r\u{f6}\u{f6}t",
        ] {
            let mut main = probe(&["true"]);
            main.user = User::Name(user.into());
            let errors = host.rt.check(&host.spec("user"), &main).expect_err(user);
            assert_eq!(errors.0[0].field(), Some("user"), "{user:?}: {errors:?}");
        }
        let mut main = probe(&["true"]);
        main.user = User::Ids { uid: u32::MAX, gid: 0 };
        assert!(host.rt.check(&host.spec("user"), &main).is_err(), "uid -1 means \"leave it\" to the kernel");
        // Seeded mutants: an answer, never a panic, and never the forbidden id.
        let mut seed = 7u64;
        for _ in 0..5_000 {
            let text: String = (0..8)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(b"0123456789:ar-+ x"[(seed >> 59) as usize % 17])
                })
                .collect();
            let mut main = probe(&["true"]);
            main.user = User::Name(text);
            let _ = host.rt.check(&host.spec("user"), &main);
        }
    });
}

type Change = fn(&mut ContainerSpec, &mut ProcessSpec, &str);

/// Newline, NUL and `..` in each field that becomes part of a file, a path or a system call.
pub(crate) fn hostile_strings_are_refused_by_field(scene: &Scene) {
    let fields: [(&str, &[&str], Change); 14] = [
        ("id", &["a\nb", "a\0b", "../x", "a/b", "", ".", ".."], |spec, _, text| spec.id = text.into()),
        ("hostname", &["a\nb", "a\0b", "a/b", "", "a b"], |spec, _, text| spec.hostname = Some(text.into())),
        ("mounts[1].target", &["/a\nb", "/a\0b", "/a/../b", "a", ""], |spec, _, text| {
            spec.mounts.push(bind("/usr", text))
        }),
        ("mounts[1].source", &["/usr\nx", "/usr\0x", "/usr/../etc", "usr", ""], |spec, _, text| {
            spec.mounts.push(bind(text, "/x"))
        }),
        (
            "files[0].path",
            &["/tmp/a\nb", "/tmp/a\0b", "/tmp/../etc/x", "tmp/x", "", "/proc/x", "/dev/x", "/sys/x"],
            |spec, _, text| {
                spec.files.push(StagedFile { path: text.into(), content: b"x".as_slice().into(), mode: 0o644 });
            },
        ),
        ("masked_paths", &["/a\nb", "/a\0b", "/a/..", "a", "/"], |spec, _, text| spec.masked_paths.push(text.into())),
        ("readonly_paths", &["/a\nb", "/a\0b", "/a/..", "a", "/"], |spec, _, text| {
            spec.readonly_paths.push(text.into())
        }),
        (
            "sysctls",
            &["net.a\nb", "net.a\0b", "net/../kernel/x", "net..x", "kernel.core_pattern", ""],
            |spec, _, text| {
                spec.sysctls.insert(text.into(), "1".into());
            },
        ),
        ("sysctls", &["1\n2", "1\0", ""], |spec, _, text| {
            spec.sysctls.insert("net.ipv4.ip_forward".into(), text.into());
        }),
        ("limits.cpuset_cpus", &["0\n1", "0\0", "../0", "0-", "1-0", ""], |spec, _, text| {
            spec.limits.cpuset_cpus = Some(text.into())
        }),
        ("argv[1]", &["a\0b"], |_, main, text| main.argv = vec!["/probe".into(), text.into()]),
        ("env", &["a\0b"], |_, main, text| main.env = vec![("A".into(), text.into())]),
        ("env", &["", "A=B", "A\0"], |_, main, text| main.env = vec![(text.into(), "x".into())]),
        ("cwd", &["/a\nb", "/a\0b", "/a/../b", "a", ""], |_, main, text| main.cwd = Some(text.into())),
    ];
    scene.play(async |host| {
        for (field, texts, change) in fields {
            for text in texts {
                let (mut spec, mut main) = (host.spec("hostile"), probe(&["true"]));
                change(&mut spec, &mut main, text);
                let errors = host.rt.check(&spec, &main).expect_err(text);
                assert!(errors.0.iter().any(|error| error.field() == Some(field)), "{field} {text:?}: {errors:?}");
                assert_eq!(host.refused(spec, main).await.0.len(), errors.0.len(), "check and create agree");
            }
        }
        // All refusals at once.
        let (mut spec, mut main) = (host.spec("a\nb"), probe(&["true"]));
        spec.hostname = Some("\n".into());
        main.cwd = Some("..".into());
        main.umask = Some(0o1000);
        let errors = host.rt.check(&spec, &main).expect_err("four");
        let fields: Vec<_> = errors.0.iter().filter_map(|error| error.field()).collect();
        assert_eq!(fields, ["id", "hostname", "cwd", "umask"]);
    });
}

pub(crate) fn the_state_is_for_its_owner_alone(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
        let base = scene.state_dir();
        assert_eq!(fs::metadata(&base).expect("the state directory").mode() & 0o777, 0o700);
        for entry in fs::read_dir(&base).expect("instances").flatten() {
            assert_eq!(entry.metadata().expect("an instance").mode() & 0o777, 0o700);
            for file in fs::read_dir(entry.path()).expect("files").flatten() {
                assert_eq!(file.metadata().expect("a file").mode() & 0o777, 0o600, "{file:?}");
            }
        }
    });
    // A directory that others can write is not taken.
    let open = scene.dir().join("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("its mode");
    let link = scene.dir().join("link");
    symlink(scene.dir(), &link).expect("a link");
    for wrong in [open, link] {
        let mut options = scene.options();
        options.state_dir = Some(wrong.clone());
        let error = scene
            .block_on(async { orangery_runtime::native::NativeRuntime::start(options).map(drop) })
            .expect_err("refused");
        assert_eq!(error.field(), Some("state_dir"), "{}: {error:?}", wrong.display());
    }
}

pub(crate) fn limits_of_the_spec_are_refused_by_field(scene: &Scene) {
    scene.play(async |host| {
        let many: [(&str, Change); 6] = [
            ("mounts", |spec, _, _| spec.mounts = (0..65).map(|n| bind("/usr", &format!("/m{n}"))).collect()),
            ("files", |spec, _, _| {
                spec.files = (0..33)
                    .map(|n| StagedFile {
                        path: format!("/tmp/f{n}").into(),
                        content: b"".as_slice().into(),
                        mode: 0o600,
                    })
                    .collect();
            }),
            ("files[0].mode", |spec, _, _| {
                spec.files = vec![StagedFile { path: "/tmp/f".into(), content: b"".as_slice().into(), mode: 0o4755 }]
            }),
            ("argv[1]", |_, main, _| main.argv = vec!["/probe".into(), "x".repeat(128 << 10).into()]),
            ("argv", |_, main, _| main.argv = Vec::new()),
            ("disk", |spec, _, _| spec.disk.bytes = 1),
        ];
        for (field, change) in many {
            let (mut spec, mut main) = (host.spec("many"), probe(&["true"]));
            change(&mut spec, &mut main, "");
            let errors = host.rt.check(&spec, &main).expect_err(field);
            assert!(errors.0.iter().any(|error| error.field() == Some(field)), "{field}: {errors:?}");
        }
    });
}

/// 64 mounts, 32 files, 16 descriptors.
pub(crate) fn the_most_that_is_accepted_works(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("most");
        spec.mounts.extend((0..63).map(|n| Mount::new(MountSource::Tmpfs { size: Some(4096) }, format!("/m{n}"))));
        spec.files = (0..32)
            .map(|n| StagedFile { path: format!("/tmp/f{n}").into(), content: b"x".as_slice().into(), mode: 0o600 })
            .collect();
        assert_eq!(host.once(spec, probe(&["true"])).await.code(), 0);
        let mut spec = host.spec("most-binds");
        spec.mounts.extend((0..63).map(|n| bind("/usr", &format!("/m{n}"))));
        spec.files = (0..32)
            .map(|n| StagedFile { path: format!("/tmp/f{n}").into(), content: b"x".as_slice().into(), mode: 0o600 })
            .collect();
        let mut main = probe(&["true"]);
        main.preserved = (0..16).map(|_| Arc::new(fs::File::open("/dev/null").expect("null").into())).collect();
        for without_init in [false, true] {
            spec.without_init = without_init;
            assert_eq!(host.once(spec.clone(), main.clone()).await.code(), 0, "without_init {without_init}");
        }
    });
}
