//! Configurations that are odd, and good all the same; or are not.

use orangery_tests::Scene;
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, path, text};

/// What `run` of it comes to: exit code, output, errors.
fn runs(scene: &Scene, name: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> (Option<i32>, String, String) {
    let bundle = bundle(scene, name, args, change);
    let output = Caller::new(scene).run(&["run", "--bundle", path(&bundle), name]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn a_device_directory_may_be_read_only(scene: &Scene) {
    let script = "echo x >/dev/null && ls /dev/pts >/dev/null && cd /run/deep && echo y >/dev/new";
    let (code, _, told) = runs(scene, "still", &["sh", "-c", script], |config| {
        config["mounts"][1]["options"] = json!(["nosuid", "ro"]);
        let more = [("/run", &["ro"][..]), ("/run/deep", &["ro", "size=64k"])];
        let more = more.map(|(at, options)| json!({ "destination": at, "type": "tmpfs", "options": options }));
        config["mounts"].as_array_mut().expect("a list").extend(more);
    });
    assert!(code == Some(1) && told.contains("/dev/new: Read-only file system"), "{code:?}: {told}");
}

pub(crate) fn nothing_but_a_procfs_is_on_proc(scene: &Scene) {
    for (kind, source, options) in [("bind", "/etc", &["bind"][..]), ("tmpfs", "tmpfs", &[]), ("sysfs", "sysfs", &[])] {
        let (code, _, told) = runs(scene, kind, &["true"], |config| {
            config["mounts"][0] = json!({ "destination": "/proc", "type": kind, "source": source, "options": options });
        });
        assert!(code == Some(1) && told.contains("nothing but a procfs"), "{kind}: {code:?}: {told}");
    }
    let (code, said, told) = runs(scene, "copy", &["cat", "/proc/sys/kernel/ostype"], |config| {
        config["mounts"][0] = json!({ "destination": "/proc", "source": "/proc", "options": ["rbind", "ro"] });
    });
    assert_eq!((code, said.as_str()), (Some(0), "Linux\n"), "{told}");
}
