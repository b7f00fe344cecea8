//! A supervisor whose containers another program makes: what its users see is the same.

use std::time::Duration;

use orangery::{Access, Enforcement, ExitStatus, Landlock, Preset, Program, Sandbox, SandboxBuilder, UserNamespace};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{builder, up};

pub(crate) fn trials() -> Vec<Trial> {
    let program = ["runc", "crun"].into_iter().find(|name| is_there(name));
    let lacks = program.is_none().then_some("needs runc or crun");
    vec![trial!(a_supervisor_on_another_program, Containers, Busybox).skip_if(lacks)]
}

fn is_there(name: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(name).is_file())
}

fn a_supervisor_on_another_program(scene: &Scene) {
    let image = scene.image("image");
    let root = rustix::process::geteuid().is_root();
    let ids = if root { UserNamespace::Host } else { UserNamespace::Own };
    for name in ["runc", "crun"].into_iter().filter(|name| is_there(name)) {
        scene.block_on(async {
            let supervisor = builder(scene).runtime(Program::new(name)).build().expect("a supervisor");
            let sandbox =
                Sandbox::builder().rootfs_dir(&image, Access::ReadOnly).user_namespace(ids).build().expect("a sandbox");
            let command = |line: &str| supervisor.command("/bin/sh").args(["-c", line]).sandbox(&sandbox);
            let output = wait::soon("its end", command("echo out; echo err >&2; exit 3").run()).await.expect("run");
            assert_eq!((&output.stdout.to_vec()[..], &output.stderr.to_vec()[..]), (&b"out\n"[..], &b"err\n"[..]));
            assert_eq!(output.report.exit, ExitStatus::Code(3), "{name}");
            let container = up(command("trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")).await;
            wait::soon("a stop", container.stop(15, Duration::from_secs(20))).await.expect("stopped");
            assert_eq!(
                wait::soon("its end", container.wait()).await.expect("a report").exit,
                ExitStatus::Code(5),
                "{name}"
            );
            // The strictest preset has rules of landlock, which no config.json can say; without them it can be had.
            let strict = |rules: Option<Landlock>| {
                let sandbox = Sandbox::builder().preset(Preset::Strict).enforcement(Enforcement::BestEffort);
                let sandbox = sandbox.rootfs_dir(&image, Access::ReadOnly).user_namespace(ids);
                let sandbox = rules.into_iter().fold(sandbox, SandboxBuilder::landlock).build().expect("a sandbox");
                supervisor.command("/bin/true").sandbox(&sandbox).run()
            };
            let error = wait::soon("a refusal", strict(None)).await.expect_err("refused");
            assert_eq!(error.field(), Some("landlock"), "{name}: {error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("strict")), "{name}: {error:?}");
            // What stands in for a limit of memory without a cgroup is one of the address space, which runc's own init does not live with.
            if root || name != "runc" {
                let output = wait::soon("its end", strict(Some(Landlock::none()))).await.expect("run");
                assert_eq!(output.report.exit, ExitStatus::Code(0), "{name}");
            }
            wait::soon("shutdown", supervisor.shutdown()).await;
        });
    }
    let state = scene.dir().join("durable");
    let error = builder(scene).durable(state).runtime(Program::new("/bin/true")).build().expect_err("refused");
    assert_eq!(error.kind(), orangery::ErrorKind::Unsupported, "{error:?}");
}
