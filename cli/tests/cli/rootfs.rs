//! `orangery rootfs`: made of archives, used, and removed again.

use std::path::Path;

use crate::kit::{copy_program, fed, ran, sh};
use crate::refusals::short;
use crate::{Test, always, needs};

const BUSYBOX: &str = "/usr/bin/busybox";

pub(crate) fn tests() -> Vec<Test> {
    let busybox = (!Path::new(BUSYBOX).exists()).then(|| format!("needs {BUSYBOX}"));
    vec![
        always("a_root_is_unpacked_and_removed", unpacked),
        always("what_leads_outside_is_named", outside),
        needs("an_unpacked_root_runs", busybox, runs),
    ]
}

/// One entry of an archive, an empty file.
fn entry(name: &str, kind: u8) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    block[124..135].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    block
}

fn archive(entries: &[(&str, u8)]) -> Vec<u8> {
    let mut all: Vec<u8> = entries.iter().flat_map(|(name, kind)| entry(name, *kind)).collect();
    all.extend([0; 1024]);
    all
}

fn unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("made");
    let made = to.to_str().unwrap();
    let bytes = archive(&[("etc/", b'5'), ("etc/hosts", b'0'), ("null", b'3')]);
    let done = fed(&["rootfs", "unpack", "--json", "-", made], &bytes);
    let said = done.ended(0).json();
    assert_eq!((&said["report"]["entries"], &said["report"]["skipped"][0]["reason"]), (&2.into(), &"device".into()));
    assert!(Path::new(said["rootfs"].as_str().unwrap()).join("etc/hosts").is_file());
    let again = fed(&["rootfs", "unpack", "-", made], &bytes);
    assert!(short(&again).contains("is there already") && again.err.contains("DIR"), "{again:?}");
    // A second layer over it, for people.
    let over = dir.path().join("over");
    let upper = dir.path().join("upper.tar");
    std::fs::write(&upper, archive(&[("etc/.wh.hosts", b'0'), ("etc/new", b'0')])).unwrap();
    let root = to.join("rootfs");
    let layers = ["rootfs", "unpack", root.to_str().unwrap(), upper.to_str().unwrap(), over.to_str().unwrap()];
    assert_eq!(ran(&layers).ended(0).text().trim_end(), over.join("rootfs").to_str().unwrap());
    let left: Vec<_> = std::fs::read_dir(over.join("rootfs/etc")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["new"]);
    let stranger = ran(&["rootfs", "remove", dir.path().to_str().unwrap()]);
    assert!(short(&stranger).contains("was not unpacked by orangery") && stranger.err.contains("--force"));
    for _ in 0..2 {
        ran(&["rootfs", "remove", made, over.to_str().unwrap()]).ended(0);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["upper.tar"]);
}

fn outside() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("made");
    let made = to.to_str().unwrap();
    for (bytes, words) in [
        (archive(&[("a", b'0'), ("../x\ny", b'0')]), "\"../x\\ny\": a path with .. leads outside"),
        (archive(&[("/etc/x", b'0')]), "\"/etc/x\": an absolute path leads outside"),
        (b"no archive".to_vec(), "ends within a header"),
        (b"\xfd7zXZ\0 and more".to_vec(), "compressed by xz"),
    ] {
        let refused = fed(&["rootfs", "unpack", "-", made], &bytes);
        assert!(short(&refused).contains(words), "{refused:?}");
    }
    let many = fed(&["rootfs", "unpack", "--max-entries", "1", "-", made], &archive(&[("a", b'0'), ("b", b'0')]));
    assert!(short(&many).contains("\"b\"") && many.err.contains("--max-entries"), "{many:?}");
    let missing = ran(&["rootfs", "unpack", "/no/such.tar", made]);
    assert!(short(&missing).contains("/no/such.tar: No such file"), "{missing:?}");
    let nowhere = ran(&["rootfs", "unpack", "/no/such.tar", "/no/such/dir"]);
    assert!(short(&nowhere).contains("/no/such: No such file") && nowhere.err.contains("DIR"), "{nowhere:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn runs() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("made"));
    std::fs::create_dir_all(from.join("bin")).unwrap();
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        std::fs::create_dir(from.join(name)).unwrap();
    }
    copy_program(BUSYBOX, from.join("bin/busybox"));
    std::os::unix::fs::symlink("busybox", from.join("bin/sh")).unwrap();
    ran(&["rootfs", "unpack", from.to_str().unwrap(), to.to_str().unwrap()]).ended(0);
    let root = to.join("rootfs");
    let said = sh(&["--rootfs", root.to_str().unwrap()], "busybox stat -c %u:%g /bin/busybox");
    assert_eq!(said.ended(0).text(), "0:0\n");
    // The same as an archive: unpacked for the container, written to, and removed with it.
    let tar = dir.path().join("root.tar");
    if pack(&from, &tar) {
        let store = dir.path().join("data");
        let run = |options: &[&str], script: &str| -> crate::kit::Ran {
            let options = [&["run", "--rootfs", tar.to_str().unwrap()], options, &["--", "sh", "-c", script]].concat();
            crate::kit::orangery(&options).env("XDG_DATA_HOME", &store).output().unwrap().into()
        };
        assert_eq!(run(&["--rw"], "busybox touch /new && busybox ls /new").ended(0).text(), "/new\n");
        assert_eq!(run(&["--writable"], "busybox ls /new; busybox touch /new; echo $?").ended(0).text(), "0\n");
        assert_eq!(run(&[], "busybox touch /new").code, Some(1));
        let place = if crate::kit::root() { "/var/lib".into() } else { store };
        let roots = place.join("orangery/rootfs");
        let left: Vec<_> = std::fs::read_dir(&roots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        // Others of this machine may have theirs beside it.
        let _ = std::fs::remove_dir(&roots).and_then(|()| std::fs::remove_dir(place.join("orangery")));
    }
    ran(&["rootfs", "remove", to.to_str().unwrap()]).ended(0);
}

#[expect(clippy::disallowed_methods, reason = "an archive as users have it")]
fn pack(from: &Path, tar: &Path) -> bool {
    let mut command = std::process::Command::new("tar");
    command.args(["--owner=0", "--group=0", "-czf"]).arg(tar).arg("-C").arg(from).arg(".");
    command.status().is_ok_and(|status| status.success())
}
