//! `run --runtime`: another program makes the container.

use std::path::Path;

use crate::kit::{copy_program, ran, root, sh};
use crate::refusals::short;
use crate::{Test, always, needs};

const BUSYBOX: &str = "/usr/bin/busybox";

pub(crate) fn tests() -> Vec<Test> {
    let lacks = || {
        if !Path::new(BUSYBOX).exists() {
            return Some(format!("needs {BUSYBOX}"));
        }
        programs().is_empty().then(|| "needs runc or crun".to_owned())
    };
    vec![
        needs("another_program_makes_the_container", lacks(), runs),
        needs("doctor_lists_the_programs", lacks(), listed),
        needs("what_another_program_cannot_have_is_named", lacks(), refused),
        always("a_program_that_is_not_there_is_named", missing),
    ]
}

fn programs() -> Vec<&'static str> {
    let is = |name: &&str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(name).is_file());
    ["runc", "crun"].into_iter().filter(is).collect()
}

/// A config.json has one path for all hierarchies, and root's own group may have several.
fn driving(program: &str) -> Vec<&str> {
    let parent: &[&str] = if root() { &["--cgroup-parent", "/"] } else { &[] };
    [&["--runtime", program], parent].concat()
}

/// A root with a shell.
fn image() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "proc", "sys", "dev", "tmp", "run"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    copy_program(BUSYBOX, dir.path().join("bin/busybox"));
    std::os::unix::fs::symlink("busybox", dir.path().join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("busybox", dir.path().join("bin/stty")).unwrap();
    dir
}

fn runs() {
    let image = image();
    let path = image.path().to_str().unwrap();
    for program in programs() {
        let options = [&driving(program)[..], &["--rootfs", path]].concat();
        let ids: &[&str] = if root() { &["--userns", "host"] } else { &[] };
        let said = sh(&[&options[..], ids].concat(), "echo out; echo err >&2; exit 3");
        assert_eq!((said.ended(3).text(), said.err.as_str()), ("out\n", "err\n"), "{program}");
        // crun gives a terminal its size when the command of an exec runs already.
        let line = "until [ \"$(stty size 2>/dev/null)\" = '24 80' ]; do :; done; stty size; exit 4";
        let said = sh(&[&options[..], &["-t"]].concat(), line);
        assert_eq!(said.ended(4).text(), "24 80\r\n", "{program}");
        let said = ran(&[&["run"], &options[..], &["--", "no-such-command"]].concat());
        assert_eq!(said.code, Some(127), "{said:?}");
    }
}

fn listed() {
    let said = ran(&["doctor", "--json"]).json();
    let findings = said["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == "other runtimes").unwrap();
    let detail = found["detail"].as_str().unwrap();
    for program in programs() {
        assert!(detail.contains(&format!("{program} 1.")), "{detail}");
    }
    assert_eq!(found["state"], "ok");
}

fn refused() {
    // crun, where both are.
    let program = *programs().last().unwrap();
    let said = sh(&driving(program), "true");
    assert_eq!(said.code, Some(125), "{said:?}");
    assert!(said.err.contains("--rootfs"), "{said:?}");
    let image = image();
    let path = image.path().to_str().unwrap();
    let options =
        [&driving(program)[..], &["--rootfs", path, "--preset", "strict", "--limits", "best-effort"]].concat();
    let said = sh(&options, "true");
    assert!(said.err.contains("--landlock none") && said.err.contains("strict"), "{said:?}");
    // What stands in for a limit of memory without a cgroup is one of the address space, which runc's own init does not live with.
    if root() || program != "runc" {
        assert_eq!(sh(&[&options[..], &["--landlock", "none"]].concat(), "exit 6").code, Some(6));
    }
    let said = ran(&["explain", "--runtime", program, "--", "true"]);
    assert!(short(&said).contains("our own runtime"), "{said:?}");
}

fn missing() {
    let said = sh(&["--runtime", "no-such-runtime", "--rootfs", "/"], "true");
    assert_eq!(said.code, Some(125), "{said:?}");
    assert!(said.err.contains("no-such-runtime") && said.err.contains("--runtime"), "{said:?}");
}
