//! Archives that want out, or too much.

use std::io::{Cursor, Read};

use super::tar::Head;
use super::*;
use crate::error::ErrorKind;

/// It is refused with this field and these words, and nothing is left of it.
fn refuses(unpack: Unpack, field: &str, words: &str) {
    let (dir, to) = place();
    let error = unpacked(unpack, &to).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)), "{error}");
    assert!(error.what().contains(words), "{error}, and not {words}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
}

#[test]
fn what_leads_outside_is_refused_by_its_name() {
    for (tar, words) in [
        (Tar::default().file("/etc/cron.d/x", ""), "\"/etc/cron.d/x\": an absolute path"),
        (Tar::default().file("a/../../x", ""), "\"a/../../x\": a path with .."),
        (Tar::default().file("..", ""), ".."),
        (Tar::default().dir("../up/"), ".."),
        (Tar::default().link("out", "/tmp").file("out/x", ""), "\"out/x\": the symbolic link \"out\" leads outside"),
        (Tar::default().link("a/out", "../../..").file("a/out/x", ""), "leads outside"),
        (Tar::default().link("one", "two").link("two", "/").file("one/x", ""), "leads outside"),
        (Tar::default().link("loop", "loop").file("loop/x", ""), "leads to no directory"),
        (Tar::default().link("proc", "/proc/self/root").file("proc/etc/x", ""), "leads outside"),
        (Tar::default().hard("x", "/etc/passwd"), "\"x\": an absolute path"),
        (Tar::default().hard("x", "../../etc/passwd"), "\"x\": a path with .."),
        (Tar::default().link("out", "/etc").hard("x", "out/passwd"), "leads outside"),
        (Tar::default().dir("d/").hard("x", "d"), "is no file"),
        (Tar::default().hard("x", "."), "hard link to the root"),
        (Tar::default().file("f", "").file("f/x", ""), "\"f\" is no directory"),
        (Tar::default().file(".", ""), "the root itself is a directory"),
        (Tar::default().link("x", ""), "says nothing"),
        (Tar::default().file("a\nb/../c", ""), "a\\nb/../c"),
    ] {
        refuses(of(tar), "entry", words);
    }
}

/// A link that stays inside is gone through; a file that is put in its place does not go through it.
#[test]
fn links_inside_are_gone_through_and_never_written_through() {
    let (dir, to) = place();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let tar = Tar::default()
        .dir("usr/lib/")
        .link("lib", "usr/lib")
        .file("lib/a", "a")
        .link("out", victim.to_str().unwrap())
        .file("out", "mine")
        .link("file", "usr/lib/a")
        .file("file", "other")
        .of(Head { ids: (5, 5), ..Head::new("lib/b", b'0') }, b"b");
    let made = unpacked(of(tar), &to).unwrap();
    let read = |name: &str| std::fs::read_to_string(made.rootfs.join(name)).unwrap();
    assert_eq!(
        (read("usr/lib/a"), read("out"), read("file"), read("usr/lib/b")),
        ("a".into(), "mine".into(), "other".into(), "b".into())
    );
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
    removed(&to).unwrap();
}

/// Endless zeros behind a header that says how many.
struct Bomb(Cursor<Vec<u8>>);

impl Read for Bomb {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            read => Ok(read),
        }
    }
}

#[test]
fn too_much_is_refused_before_it_is_written() {
    let limits = UnpackLimits::default();
    let bomb = Tar::default().head(&Head { size: 1 << 32, ..Head::new("big", b'0') }).cut(512);
    refuses(Unpack::from_reader(Bomb(Cursor::new(bomb))).limits(limits.bytes(1 << 20)), "limits.bytes", "\"big\"");
    let three = || Tar::default().file("a", "12").file("b", "34").file("c", "5");
    refuses(of(three()).limits(limits.bytes(4)), "limits.bytes", "\"c\"");
    refuses(of(three()).limits(limits.entries(2)), "limits.entries", "\"c\"");
    refuses(of(Tar::default().file("1/2/3/4", "")).limits(limits.depth(3)), "limits.depth", "1/2/3/4");
    // Directories that no entry speaks of are made too.
    refuses(of(Tar::default().file("1/2/3/4", "")).limits(limits.entries(3)), "limits.entries", "1/2/3/4");
    let long = Head { size: 1 << 40, ..Head::new("name", b'L') };
    refuses(of(Tar::default().head(&long)), "limits.path", "\"name\"");
    let long = Head { size: 1 << 30, ..Head::new("pax", b'x') };
    refuses(of(Tar::default().head(&long)), "archive", "1073741824 bytes");
    // Headers that describe nothing count.
    let many = (0..50).fold(Tar::default(), |tar, _| tar.pax(&[("comment", b"x")]));
    refuses(of(many).limits(limits.entries(49)), "limits.entries", "pax");
    let (_dir, to) = place();
    unpacked(of(three()).limits(limits.bytes(5).entries(3)), &to).unwrap();
}

#[test]
fn archives_that_are_cut_or_wrong_are_refused() {
    let tar = || Tar::default().file("one", "1").file("two", vec![2; 600]);
    for (bytes, words) in [
        (tar().cut(0), "empty"),
        (tar().cut(100), "ends within a header"),
        (tar().cut(512), "at \"one\": it ends within the content"),
        (tar().cut(1024 + 512 + 100), "at \"two\""),
        (vec![b'x'; 2048], "no tar archive"),
        (Tar::default().file("one", "1").raw(&[b'x'; 512]).end(), "what follows is no header"),
        (Tar::default().head(&Head::new("strange", b'%')).end(), "type %"),
        (Tar::default().of(Head::new("name", b'L'), b"x\0").cut(1024), "it ends where an entry should be"),
        (Tar::default().pax(&[("size", b"-1")]).file("a", "").end(), "the record size"),
        (
            Tar::default().pax(&[("GNU.sparse.size", b"5"), ("GNU.sparse.map", b"0,9")]).file("a", "123456789").end(),
            "overlap or lie outside",
        ),
        (
            Tar::default()
                .pax(&[("GNU.sparse.size", b"99"), ("GNU.sparse.map", b"0,5,3,4")])
                .file("a", "123456789")
                .end(),
            "overlap",
        ),
    ] {
        refuses(Unpack::from_reader(Cursor::new(bytes)), "archive", words);
    }
}

#[test]
fn a_hundred_thousand_entries_and_strange_names() {
    // Once is enough: the other set-ups of CI are for owners.
    let many = if root() { 100_000 } else { 5_000 };
    let mut tar = Tar::default();
    for number in 0..many {
        tar = tar.head(&Head::new(format!("{:02}/{number}", number / 1000), b'0'));
    }
    let strange = ["\n", " ", "-rf", "a\\b", "\u{1b}[31m", "*", "~"];
    for name in strange {
        tar = tar.file(name, name);
    }
    let (dir, to) = place();
    let made = unpacked(of(tar), &to).unwrap();
    assert_eq!(made.report.entries, many + 7);
    for name in strange {
        assert_eq!(std::fs::read_to_string(made.rootfs.join(name)).unwrap(), name);
    }
    assert_eq!(removed(&to).unwrap().entries, many + many / 1000 + 7 + 3);
    assert!(names(dir.path()).is_empty());
}
