//! What a bundle gets that says nothing: a home, and the usual devices.

use std::fs;
use std::process::Stdio;

use orangery_tests::{Scene, wait};
use serde_json::json;

use crate::bundle::bundle;
use crate::caller::{Caller, all, end_of, path, pipe, text};

/// By the container's own file, as it is in there.
pub(crate) fn home_is_what_the_container_says(scene: &Scene) {
    let caller = Caller::new(scene);
    let own = scene.dir().join("passwd");
    fs::write(
        &own,
        "root:x:0:0::/mounted:/bin/sh\nmad:x:7:7::relative:/bin/sh\nold:x:8:8::/first:/\nnew:x:8:8::/second:/\n",
    )
    .expect("a file");
    let mount =
        json!({ "destination": "/etc/passwd", "type": "bind", "source": path(&own), "options": ["rbind", "ro"] });
    let home = |name: &str, uid: u32, mounted: bool, env: &[&str]| {
        let bundle = bundle(scene, name, &["sh", "-c", "echo $HOME"], |config| {
            config["process"]["user"] = json!({ "uid": uid, "gid": 0 });
            config["process"]["env"].as_array_mut().expect("a list").extend(env.iter().map(|entry| json!(entry)));
            if mounted {
                config["mounts"].as_array_mut().expect("a list").push(mount.clone());
            }
        });
        let output = caller.run(&["run", "-b", path(&bundle), name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(home("roots", 0, true, &[]), "/mounted");
    assert_eq!(home("mads", 7, true, &[]), "/", "it is no path");
    assert_eq!(home("firsts", 8, true, &[]), "/first");
    assert_eq!(home("nobodys", 4321, true, &[]), "/");
    assert_eq!(home("given", 0, true, &["HOME=/given"]), "/given");
    assert_eq!(home("empty", 0, true, &["HOME="]), "/mounted");
    let of_image = fs::read_to_string(scene.image("other").join("etc/passwd")).expect("the image's");
    let line = of_image.lines().find(|line| line.starts_with("builder:")).expect("builder");
    let fields: Vec<&str> = line.split(':').collect();
    let uid = fields[2].parse().expect("a number");
    assert_eq!(home("images", uid, false, &[]), fields[5]);

    // A further process has that of its own user.
    let bundle = bundle(scene, "further", &["sleep", "1000"], |config| {
        config["mounts"].as_array_mut().expect("a list").push(mount.clone());
    });
    let init = wait::pidfd(caller.create(&bundle, "further", Stdio::null()));
    caller.good(&["start", "further"]);
    let say = "echo $HOME";
    for (user, home) in [("0", "/mounted"), ("8", "/first"), ("99", "/")] {
        assert_eq!(caller.good(&["exec", "-u", user, "further", "sh", "-c", say]).trim(), home);
    }
    assert_eq!(caller.good(&["exec", "-e", "HOME=/asked", "further", "sh", "-c", say]).trim(), "/asked");
    caller.good(&["delete", "--force", "further"]);
    end_of(&init);
}

/// Without a word about devices there are those of every container; rules for reading and for writing add up.
pub(crate) fn devices_are_the_usual_ones_unless_rules_say_more(scene: &Scene) {
    let caller = Caller::new(scene);
    // /dev/kmsg can be opened by whoever has CAP_SYSLOG.
    let script = "mknod /full c 1 7; mknod /kmsg c 1 11
        (exec 3< /full) && echo full; (exec 3< /kmsg) 2>/dev/null && echo read; (exec 3<> /kmsg) 2>/dev/null && echo both; true";
    let opened = |name: &str, rules: serde_json::Value| {
        let bundle = bundle(scene, name, &["sh", "-c", script], |config| {
            config["root"]["readonly"] = false.into();
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
            }
            if !rules.is_null() {
                config["linux"]["resources"] = json!({ "devices": rules });
            }
        });
        let (said, out) = pipe();
        let status = caller.command(&["run", "-b", path(&bundle), name]).stdout(out).status().expect("it runs");
        assert!(status.success());
        all(said).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let rule = |access: &str| json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access });
    assert_eq!(opened("silent", serde_json::Value::Null), ["full"]);
    assert_eq!(opened("empty", json!([])), ["full"]);
    assert_eq!(opened("reads", json!([rule("r")])), ["full", "read"]);
    assert_eq!(opened("apart", json!([rule("r"), rule("w")])), ["full", "read", "both"]);
    let none = json!({ "allow": false, "access": "w" });
    assert_eq!(opened("taken", json!([rule("rw"), none])), ["full", "read"]);
}
