//! What ordinary archives and directories become.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use proptest::prelude::*;

use super::tar::Head;
use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn every_kind_of_entry_becomes_what_it_says() {
    let (dir, to) = place();
    let tar = Tar::default()
        .head(&Head { mode: 0o755, mtime: 7, ..Head::new("./", b'5') })
        .head(&Head { mode: 0o1777, ..Head::new("tmp/", b'5') })
        .of(Head { mode: 0o4755, ..Head::new("bin/su", b'0') }, b"su")
        .hard("bin/su2", "bin/su")
        .link("bin/sh", "su")
        .link("nowhere", "/etc/passwd")
        .head(&Head { mode: 0o622, ..Head::new("pipe", b'6') })
        .head(&Head::new("null", b'3'))
        .head(&Head { mode: 0o000, ..Head::new("closed/", b'5') })
        .head(&Head { mode: 0o000, ..Head::new("closed/inner/", b'5') })
        .file("closed/inner/file", "deep");
    let made = unpacked(of(tar), &to).unwrap();
    let root = made.rootfs;
    assert_eq!((mode(&to), mode(&root), root.metadata().unwrap().mtime()), (0o700, 0o755, 7));
    assert_eq!((mode(&root.join("tmp")), mode(&root.join("bin/su"))), (0o1777, 0o4755));
    let (su, su2) = (root.join("bin/su").metadata().unwrap(), root.join("bin/su2").metadata().unwrap());
    assert_eq!((su.ino(), su.nlink(), su.mtime()), (su2.ino(), 2, 1_000_000_000));
    assert_eq!(std::fs::read_link(root.join("bin/sh")).unwrap(), Path::new("su"));
    assert_eq!(std::fs::read_link(root.join("nowhere")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(root.join("nowhere").symlink_metadata().unwrap().mtime(), 1_000_000_000);
    assert!(root.join("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!((mode(&root.join("pipe")), mode(&root.join("closed"))), (0o622, 0o000));
    assert_eq!((made.report.entries, made.report.bytes, made.report.skipped_count), (10, 6, 1));
    assert_eq!((made.report.skipped[0].entry.as_str(), made.report.skipped[0].reason), ("null", WhyLeftOut::Device));
    assert_eq!(report_of(&to).unwrap(), made.report);
    assert_eq!(removed(&to).unwrap().entries, 13);
    assert_eq!(removed(&to).unwrap(), Removed::default());
    assert!(names(dir.path()).is_empty());
}

/// Of root: the owners themselves. Of others without a range: all of it is theirs, and that is counted.
#[test]
fn owners_are_kept_or_counted() {
    let (_dir, to) = place();
    let tar = Tar::default()
        .of(Head { ids: (1000, 33), mode: 0o6755, ..Head::new("a", b'0') }, b"")
        .hard("b", "a")
        .head(&Head { ids: (1000, 0), mode: 0o700, ..Head::new("d/", b'5') })
        .file("d/mine", "x")
        .of(Head { ids: (70_000, 0), mode: 0o4711, ..Head::new("far", b'0') }, b"");
    let made = unpacked(of(tar), &to).unwrap();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ids = |name: &str| {
        let meta = made.rootfs.join(name).symlink_metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    if root() {
        assert_eq!((ids("a"), ids("d")), ((1000, 33, 0o6755), (1000, 0, 0o700)));
        assert_eq!(made.rootfs.join("b").metadata().unwrap().nlink(), 2);
        assert_eq!((ids("far"), made.report.owners_lost), ((0, 0, 0o711), 1), "beyond what a container has");
    } else if made.report.why_owners_lost.is_some() {
        assert_eq!((ids("a"), ids("far")), ((own.0, own.1, 0o755), (own.0, own.1, 0o711)));
        assert_eq!(made.report.owners_lost, 3);
    } else {
        assert_ne!(ids("a").0, own.0);
        assert_eq!((ids("a").2, made.report.owners_lost), (0o6755, 1));
    }
    removed(&to).unwrap();
}

#[test]
fn long_names_times_and_attributes_come_by_extended_headers() {
    let (_dir, to) = place();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let strange = "new\nline \u{fc}".as_bytes();
    let tar = Tar::default()
        .pax(&[("path", long.as_bytes()), ("mtime", b"-1.5"), ("SCHILY.xattr.user.note", b"a\0b")])
        .file("short", "1")
        .of(Head::new("././@LongLink", b'L'), &[strange, &[0]].concat())
        .file("cut", "2")
        .pax(&[("SCHILY.xattr.trusted.x", b"1"), ("SCHILY.xattr.user.overlay.opaque", b"y")])
        .file("attributes", "3");
    let made = unpacked(of(tar), &to).unwrap();
    let file = made.rootfs.join(&long);
    let meta = file.metadata().unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
    let mut value = [0; 16];
    let kept = rustix::fs::getxattr(&file, "user.note", &mut value[..]);
    let unsupported = made.report.skipped.iter().any(|skip| skip.reason == WhyLeftOut::AttributeUnsupported);
    assert!(unsupported || value[..kept.unwrap()] == *b"a\0b");
    assert!(made.rootfs.join("new\nline \u{fc}").exists());
    let attributes = made.report.skipped.iter().filter(|skip| skip.reason == WhyLeftOut::Attribute);
    assert_eq!(attributes.count(), 2);
}

/// Two pieces of 512 bytes in 10 MiB, in each of the ways to say so.
#[test]
fn sparse_files_stay_sparse() {
    const SIZE: u64 = 10 << 20;
    let (one, two) = ([1u8; 512], [2u8; 512]);
    let content = [one, two].concat();
    let octal = |number: u64| format!("{number:011o}\0").into_bytes();
    let mut old = Head { size: 1024, ..Head::new("old", b'S') }.bytes();
    let map = [0, 512, SIZE - 512, 512].map(octal).concat();
    old[386..386 + map.len()].copy_from_slice(&map);
    old[257..265].copy_from_slice(b"ustar  \0");
    old[483..495].copy_from_slice(&octal(SIZE));
    let front = format!("2\n0\n512\n{}\n512\n", SIZE - 512);
    let front = [front.as_bytes(), &vec![0; 512 - front.len()], &content].concat();
    let size = SIZE.to_string();
    let last = (SIZE - 512).to_string();
    let tar = Tar::default()
        .raw(&tar::summed(old))
        .content(&content)
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"one"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("GNUSparseFile.0/one", front)
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.name", b"map"),
            ("GNU.sparse.map", format!("0,512,{last},512").as_bytes()),
        ])
        .file("GNUSparseFile.0/map", &content)
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"512"),
            ("GNU.sparse.offset", last.as_bytes()),
            ("GNU.sparse.numbytes", b"512"),
        ])
        .file("pairs", &content);
    let (_dir, to) = place();
    let limits = UnpackLimits::default().bytes(1 << 16);
    let made = unpacked(of(tar).limits(limits), &to).unwrap();
    let again = to.with_extension("copy");
    let copy = unpacked(Unpack::from_directory(&made.rootfs).limits(limits), &again).unwrap();
    for root in [&made.rootfs, &copy.rootfs] {
        for name in ["old", "one", "map", "pairs"] {
            let path = root.join(name);
            let meta = path.metadata().unwrap();
            assert_eq!(meta.len(), SIZE, "{name}");
            assert!(meta.blocks() * 512 < 1 << 20, "{name} takes {} blocks", meta.blocks());
            let bytes = std::fs::read(path).unwrap();
            assert!(bytes[..512] == one && bytes[bytes.len() - 512..] == two, "{name}");
            assert!(bytes[512..bytes.len() - 512].iter().all(|byte| *byte == 0), "{name}");
        }
    }
}

#[test]
fn a_directory_is_copied_as_it_is() {
    let (dir, to) = place();
    let from = dir.path().join("from");
    std::fs::create_dir_all(from.join("a/b")).unwrap();
    std::fs::write(from.join("a/b/file"), "text").unwrap();
    std::fs::set_permissions(from.join("a/b/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::hard_link(from.join("a/b/file"), from.join("other")).unwrap();
    std::os::unix::fs::symlink("/etc", from.join("link")).unwrap();
    let _listening = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let made = unpacked(Unpack::from_directory(&from), &to).unwrap();
    let file = made.rootfs.join("a/b/file").metadata().unwrap();
    assert_eq!((file.nlink(), file.mode() & 0o7777), (2, 0o640));
    assert_eq!(std::fs::read_link(made.rootfs.join("link")).unwrap(), Path::new("/etc"));
    assert_eq!(names(&made.rootfs), ["a", "link", "other"]);
    assert_eq!((made.report.entries, made.report.skipped[0].reason), (6, WhyLeftOut::Socket));
    // Into itself: without itself.
    let inner = unpacked(Unpack::from_directory(dir.path()), &dir.path().join("inner")).unwrap();
    assert_eq!(names(&inner.rootfs), ["from", "made"]);
    let own = from.metadata().unwrap();
    assert_eq!((made.rootfs.metadata().unwrap().mode(), file.uid()), (own.mode(), own.uid()));
}

/// All of a tree that can be compared.
fn look(root: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let meta = root.join(&path).symlink_metadata().unwrap();
        let mut content = Vec::new();
        if meta.is_dir() {
            let entries = std::fs::read_dir(root.join(&path)).unwrap();
            pending.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        } else if meta.is_symlink() {
            content = std::fs::read_link(root.join(&path)).unwrap().into_os_string().into_encoded_bytes();
        } else if meta.is_file() {
            content = std::fs::read(root.join(&path)).unwrap();
        }
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        // The top is made by whoever unpacks.
        let mtime = if path.as_os_str().is_empty() { 0 } else { meta.mtime() };
        let mode = if path.as_os_str().is_empty() { 0 } else { meta.mode() };
        all.insert(path, (mode, links, mtime, content));
    }
    all
}

/// A directory of random things, as a list of what to make.
fn things() -> impl Strategy<Value = Vec<(u8, usize, usize, Vec<u8>)>> {
    let content = proptest::collection::vec(any::<u8>(), 0..1500);
    proptest::collection::vec((0u8..5, 0usize..6, 0usize..8, content), 1..24)
}

#[expect(clippy::disallowed_methods, reason = "GNU tar is what we are compared with")]
fn gnu_tar(args: &[&std::ffi::OsStr]) -> bool {
    std::process::Command::new("tar").args(args).status().is_ok_and(|status| status.success())
}

fn make(from: &Path, things: &[(u8, usize, usize, Vec<u8>)]) {
    let dirs = ["", "a", "a/b", "c d", "\u{fc}", "a/b/e\nf"];
    for dir in dirs {
        std::fs::create_dir_all(from.join(dir)).unwrap();
    }
    for (number, (kind, dir, name, content)) in things.iter().enumerate() {
        let path = from.join(dirs[*dir]).join(format!("{}{name}", "n".repeat(*name * 20)));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match kind {
            0 | 1 => {
                std::fs::write(&path, content).unwrap();
                let bits = u32::from(content.first().copied().unwrap_or(0)) | 0o400;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits & 0o777)).unwrap();
            }
            2 => std::os::unix::fs::symlink(format!("../{number}"), &path).unwrap(),
            3 => std::fs::create_dir(&path).unwrap(),
            _ => {
                std::fs::write(from.join("first"), "first").unwrap();
                std::fs::hard_link(from.join("first"), &path).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What GNU tar has written becomes what GNU tar makes of it, in each of its formats; and so does the directory itself.
    #[test]
    fn as_gnu_tar_does_it(things in things(), format in 0usize..3) {
        let (dir, _) = place();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("from")).unwrap();
        std::fs::create_dir(at("theirs")).unwrap();
        make(&at("from"), &things);
        let (tar, from, theirs) = (at("all.tar"), at("from"), at("theirs"));
        let format = ["--format=gnu", "--format=pax", "--format=oldgnu"][format];
        if !gnu_tar(&[format.as_ref(), "-S".as_ref(), "--owner=0".as_ref(), "--group=0".as_ref(), "-C".as_ref(), from.as_ref(), "-cf".as_ref(), tar.as_ref(), ".".as_ref()]) {
            println!("skipped: there is no tar");
            return Ok(());
        }
        prop_assert!(gnu_tar(&["-C".as_ref(), theirs.as_ref(), "-pxf".as_ref(), tar.as_ref()]));
        let ours = unpacked(Unpack::from_tar(&tar), &at("ours")).unwrap();
        let copied = unpacked(Unpack::from_directory(&from), &at("copied")).unwrap();
        let want = look(&theirs);
        prop_assert_eq!(&look(&ours.rootfs), &want);
        prop_assert_eq!(&look(&copied.rootfs), &want);
        prop_assert_eq!(ours.report.skipped_count, 0);
    }
}

#[test]
fn a_directory_is_counted_without_following_links() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    std::fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
    let usage = count(dir.path()).unwrap();
    assert_eq!(usage.inodes, 4);
    assert!((100_000..1 << 20).contains(&usage.bytes), "{usage:?}");
    assert!(count(&dir.path().join("missing")).is_err());
}
