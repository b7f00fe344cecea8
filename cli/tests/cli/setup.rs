//! `orangery setup`, as root, for a user who then needs no root.
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as another user")]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kit::{Ran, binary, copy_program, ran, root};
use crate::refusals::short;
use crate::{Test, always, needs};

/// An ordinary user that every machine has.
const USER: &str = "nobody";
const UID: u32 = 65_534;

pub(crate) fn tests() -> Vec<Test> {
    let memory = Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists();
    let lacks = (!root() || !memory).then(|| "needs root and a memory controller of cgroup v1".to_owned());
    vec![always("who_cannot_be_set_up_is_named", refused), needs("an_ordinary_user_is_set_up_once", lacks, set_up)]
}

fn refused() {
    for (user, word) in [("no-such-user", "no user no-such-user"), ("root", "root needs no set-up"), ("", "no user")] {
        let ran = ran(&["setup", "--user", user, "--dry-run"]);
        let text = short(&ran);
        assert!(text.contains(word) && text.contains("--user"), "{text}");
    }
    let both = ran(&["setup", "--user", USER, "--undo", "--enter", "1"]);
    assert!(short(&both).contains("cannot be used with"), "{both:?}");
    if !root() {
        assert!(short(&ran(&["setup", "--user", USER])).contains("only root"));
    }
}

/// What is handed over in each hierarchy.
fn handed() -> Vec<PathBuf> {
    let tops = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    tops.map(|top| top.join(format!("orangery-user-{UID}"))).filter(|path| path.exists()).collect()
}

/// Taken back also when the trial fails.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        ran(&["setup", "--user", USER, "--undo"]);
    }
}

fn set_up() {
    // Where everybody may read it.
    let dir =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let copy = dir.path().join("orangery");
    copy_program(binary(), &copy);
    let limited = || -> Ran {
        let mut command = Command::new(&copy);
        command.args(["run", "--memory", "16M", "--", "tail", "/dev/zero"]).env("HOME", "/").env("TMPDIR", "/tmp");
        command.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null()).uid(UID).gid(UID);
        command.output().unwrap().into()
    };
    assert!(short(&limited()).contains("--memory"), "it has no cgroups yet");

    let dry = ran(&["setup", "--user", USER, "--dry-run"]);
    assert!(dry.ended(0).text().contains("would be done"), "{dry:?}");
    assert_eq!(handed(), Vec::<PathBuf>::new());
    let back = Back;
    let done = ran(&["setup", "--json", "--user", USER]);
    assert_eq!(done.ended(0).json()["uid"], UID);
    let groups = handed();
    assert!(groups.len() > 1, "{groups:?}");
    assert_eq!(limited().code, Some(137), "it is killed at its limit: {:?}", limited());
    let again = ran(&["setup", "--user", USER]);
    let steps = again.ended(0).text().lines().filter(|line| line.starts_with("make ") || line.starts_with("give "));
    assert!(steps.into_iter().all(|line| line.ends_with("is so already")), "{again:?}");

    let inside = groups[0].join("somebodys");
    std::fs::create_dir(&inside).unwrap();
    let busy = ran(&["setup", "--user", USER, "--undo"]);
    assert!(busy.code == Some(125) && busy.err.contains("end what lives there"), "{busy:?}");
    std::fs::remove_dir(&inside).unwrap();
    ran(&["setup", "--user", USER, "--undo"]).ended(0);
    assert_eq!(handed(), Vec::<PathBuf>::new());
    drop(back);
}
