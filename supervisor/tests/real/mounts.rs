//! Mounts and devices as the sandbox builder takes them.

use orangery::{ErrorKind, Mount, Propagation, Sandbox};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(a_device_and_a_mount_without_programs), trial!(what_cannot_be_mounted_is_told_at_once)]
}

fn a_device_and_a_mount_without_programs(scene: &Scene) {
    let programs = scene.dir().join("programs");
    std::fs::create_dir(&programs).expect("a directory");
    std::fs::copy(scene.probe(), programs.join("probe")).expect("a program");
    play(scene, async |supervisor| {
        let mount = Mount::bind(&programs, "/programs").read_only().no_exec();
        let mut other = Mount::device("/dev/zero");
        other.target = "/dev/mine".into();
        let sandbox = Sandbox::builder().device("/dev/full").mount(other).mount(mount).build().expect("good");
        let script = "head -c 3 /dev/mine | wc -c; ! echo x > /dev/full; /programs/probe true; echo $?";
        let output = supervisor.command("sh").args(["-c", script]).sandbox(&sandbox).run();
        let output = wait::soon("its end", output).await.expect("run");
        assert_eq!(String::from_utf8_lossy(&output.stdout.to_vec()).trim(), "3\n126", "{output:?}");
    });
}

fn what_cannot_be_mounted_is_told_at_once(scene: &Scene) {
    play(scene, async |supervisor| {
        let shared = Mount::bind("/usr", "/data").propagation(Propagation::Shared);
        let sandbox = Sandbox::builder().mount(shared).device("/etc/passwd").build().expect("not looked at yet");
        let error = supervisor.command("true").sandbox(&sandbox).run().await.expect_err("refused");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("mounts[0].propagation")));
        assert!(error.messages().any(|message| message.contains("/etc/passwd is no device")), "{error}");
    });
}
