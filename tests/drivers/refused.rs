//! What fails, and how that is told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use orangery_runtime::drivers::{DrivenRuntime, Program};
use orangery_runtime::native::End;
use orangery_runtime::spec::{Landlock, Mount, StagedFile, User};
use orangery_runtime::{Error, ErrorKind, Runtime as _};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Scene, wait};

use crate::program::{Which, is_root, play, play_with};

pub(crate) fn commands_that_are_not_there(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        std::fs::write(host.image.join("etc/plain"), "no program").expect("a file");
        for (name, kind) in [
            ("no-such-command", ErrorKind::CommandNotFound),
            ("/no/such/command", ErrorKind::CommandNotFound),
            ("/etc/plain", ErrorKind::CommandNotExecutable),
        ] {
            let container = host.create(host.spec("missing"), command(&[name])).await;
            let error = container.start().await.expect_err("nothing to run");
            assert_eq!((error.kind(), error.field()), (kind, Some("argv[0]")), "{name}: {error:?}");
            assert!(error.stage().is_some_and(|stage| stage.ends_with(" exec")), "{error:?}");
            let process = container.exec(probe(&["exit", "3"])).await.expect("the container lives");
            assert_eq!(outcome(process).await.code(), 3);
            container.delete().await.expect("deleted");
            // Where it is pid 1 some say it when it is made, others when it is started.
            let mut spec = host.spec("missing");
            spec.without_init = true;
            let error = match wait::soon("create", host.rt.create(spec, command(&[name]))).await {
                Err(mut errors) => errors.0.remove(0),
                Ok(container) => {
                    let error = container.start().await.expect_err("nothing to run");
                    container.delete().await.expect("deleted");
                    error
                }
            };
            assert_eq!((error.kind(), error.field()), (kind, Some("argv[0]")), "{name}: {error:?}");
        }
    });
}

pub(crate) fn a_failed_creation_leaves_nothing(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let before = scene.stock();
        for _ in 0..2 {
            let mut spec = host.spec("fails");
            spec.sysctls.insert("net.ipv4.no_such_thing".into(), "1".into());
            let mut errors = host.refused(spec, probe(&["true"])).await;
            let error = errors.0.remove(0);
            assert!(error.stage().is_some_and(|stage| stage.ends_with(" create")), "{error:?}");
            assert!(error.what().len() > 8, "its own words: {error:?}");
        }
        let left = before.left_over(&scene.stock());
        assert!(left.iter().all(|line| !line.contains("fails")), "{left:?}");
        // The name is free.
        let (outcome, _) = host.life(host.spec("fails"), probe(&["exit", "4"])).await;
        assert_eq!(outcome.code(), 4);
    });
}

pub(crate) fn fields_that_it_cannot_have(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let (mut spec, mut main) = (host.spec("refused"), probe(&["true"]));
        spec.rootfs = orangery_runtime::spec::Rootfs::HostAllowList;
        spec.files.push(StagedFile { path: "/tmp/x".into(), content: [].into(), mode: 0o600 });
        main.personality = Some(8);
        let expected = ["rootfs", "files", "personality"];
        for errors in [host.rt.check(&spec, &main).expect_err("refused"), host.refused(spec, main).await] {
            let fields: Vec<_> = errors.0.iter().filter_map(Error::field).collect();
            assert_eq!(fields, expected);
            assert!(errors.0.iter().all(|error| error.kind() == ErrorKind::Unsupported), "{errors}");
        }
        // What it is, and how to go without it.
        let mut main = probe(&["true"]);
        main.landlock = Some(Landlock::new().scope_signals(true));
        let errors = host.refused(host.spec("refused"), main.clone()).await;
        let error = &errors.0[0];
        assert_eq!((error.field(), errors.0.len()), (Some("landlock"), 1), "{errors}");
        assert!(error.what().contains("scope:signals") && error.hint().is_some_and(|hint| hint.contains("none()")));
        main.landlock = Some(Landlock::none());
        assert_eq!(host.life(host.spec("without"), main).await.0.code(), 0);
        // Nothing is made in a root that is only read, as some would.
        let mut spec = host.spec("refused");
        spec.mounts.push(Mount::tmpfs("/no/such/place"));
        spec.mounts.push(Mount::tmpfs("/tmp/deep/place"));
        let errors = host.refused(spec, probe(&["true"])).await;
        let fields: Vec<_> = errors.0.iter().filter_map(Error::field).collect();
        assert_eq!(fields, ["mounts[0].target"], "{errors}");
        assert!(!host.image.join("no").exists());
        host.rt.check(&host.spec("good"), &probe(&["true"])).expect("it can be had");
    });
}

/// An ordinary user without a range: that id is the container's root.
pub(crate) fn a_user_beside_the_one_id(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let mut main = command(&["/bin/sh", "-c", "/bin/busybox id -u"]);
        main.user = User::Ids { uid: 1234, gid: 4321 };
        if host.rt.check(&host.spec("beside"), &main).is_ok() {
            assert_eq!(host.life(host.spec("beside"), main).await.0.out, "1234\n");
        } else {
            assert!(!is_root());
            let errors = host.refused(host.spec("beside"), main).await;
            let error = &errors.0[0];
            assert_eq!((error.field(), error.kind()), (Some("user"), ErrorKind::Unsupported), "{errors}");
        }
        assert_eq!(host.life(host.spec("root"), command(&["/bin/sh", "-c", "/bin/busybox id -u"])).await.0.out, "0\n");
    });
}

pub(crate) fn a_program_that_is_not_there(scene: &Scene) {
    let start = |path: &str| DrivenRuntime::start(Program::new(path), scene.options()).expect_err("no runtime");
    for path in ["/no/such/runtime", "no-such-runtime"] {
        let error = start(path);
        assert_eq!((error.kind(), error.field()), (ErrorKind::NotFound, Some("runtime")), "{error:?}");
    }
    let plain = scene.dir().join("plain");
    std::fs::write(&plain, "").expect("a file");
    let error = start(plain.to_str().expect("UTF-8"));
    assert_eq!((error.kind(), error.field()), (ErrorKind::Permission, Some("runtime")), "{error:?}");
    let mut options = scene.options();
    options.end = End::Release;
    let error = DrivenRuntime::start(Program::new("/bin/true"), options).expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

/// A program of a few lines.
pub(crate) fn script(scene: &Scene, lines: &str) -> PathBuf {
    let path = scene.dir().join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

pub(crate) fn a_program_that_is_too_old(scene: &Scene) {
    let program = Program::new(script(scene, "echo runc version 1.0.3"));
    scene.block_on(async {
        let (rt, driver) = DrivenRuntime::start(program, scene.options()).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let mut spec = orangery_runtime::ContainerSpec::default();
        spec.id = "old".into();
        let mut errors = wait::soon("create", rt.create(spec, probe(&["true"]))).await.err().expect("refused");
        let error = errors.0.remove(0);
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("runtime")), "{error:?}");
        assert!(error.what().contains("runc 1.0"), "{error:?}");
        rt.shutdown().await;
        driver.await.expect("no panic");
    });
}

pub(crate) fn a_program_that_hangs(scene: &Scene) {
    let lines = "case \"$*\" in *version*) echo runc version 1.1.0;; *delete*) exit 0;; *) exec sleep 1000;; esac";
    let program = Program::new(script(scene, lines)).patience(Duration::from_secs(3));
    play_with(scene, program, async |host| {
        let error = host.refused(host.spec("hangs"), probe(&["true"])).await.0.remove(0);
        assert_eq!((error.stage(), error.field()), (Some("script create"), Some("runtime")), "{error:?}");
        assert!(error.what().contains("within 3s"), "{error:?}");
        let _ =
            tokio::time::timeout(Duration::from_millis(50), host.rt.create(host.spec("given-up"), probe(&["true"])))
                .await;
    });
}

pub(crate) fn the_words_of_a_program(scene: &Scene) {
    let lines = r#"case "$*" in
        *version*) echo runc version 1.1.0;; *delete*) exit 0;;
        *) while [ "$1" != --log ]; do shift; done
           echo '{"level":"error","msg":"it is raining","time":"now"}' >"$2"; exit 3;; esac"#;
    play_with(scene, Program::new(script(scene, lines)), async |host| {
        let error = host.refused(host.spec("words"), probe(&["true"])).await.0.remove(0);
        assert_eq!((error.what(), error.stage()), ("it is raining", Some("script create")), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Creation);
    });
    let lines = r#"case "$*" in *version*) echo runc version 1.1.0;; *delete*) exit 0;; *) exit 0;; esac"#;
    play_with(scene, Program::new(script(scene, lines)), async |host| {
        let error = host.refused(host.spec("nobody"), probe(&["true"])).await.0.remove(0);
        assert!(error.what().contains("no number"), "{error:?}");
    });
    let lines = r#"case "$*" in *version*) echo runc version 1.1.0;; *delete*) exit 0;;
        *) while [ "$1" != --pid-file ]; do shift; done; echo 1 >"$2"; exit 0;; esac"#;
    play_with(scene, Program::new(script(scene, lines)), async |host| {
        let error = host.refused(host.spec("stranger"), probe(&["true"])).await.0.remove(0);
        assert!(error.what().contains("none that has fallen to us"), "{error:?}");
    });
}
