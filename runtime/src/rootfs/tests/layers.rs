//! Layers over each other.

use std::io::Cursor;

use super::*;
use crate::error::ErrorKind;

fn layers(layers: Vec<Tar>) -> Unpack {
    Unpack::from_layers(layers.into_iter().map(|tar| Layer::reader(Cursor::new(tar.end()))))
}

#[test]
fn whiteouts_take_away_what_lies_below_and_nothing_else() {
    let (_dir, to) = place();
    let base = Tar::default()
        .file("gone", "")
        .file("etc/gone", "")
        .file("etc/kept", "")
        .file("full/a/b", "")
        .file("opq/low", "")
        .file("opq/sub/low", "")
        .file("both", "low");
    let middle = Tar::default()
        .file(".wh.gone", "")
        .file("etc/.wh.gone", "")
        .file(".wh.full", "")
        // Before and behind: the order within a layer means nothing.
        .file("opq/sub/high", "")
        .file("opq/.wh..wh..opq", "")
        .file("opq/high", "")
        .file("both", "high")
        .file(".wh.both", "")
        .file(".wh..wh.plnk/x", "bookkeeping");
    let made = unpacked(layers(vec![base, middle]), &to).unwrap();
    assert_eq!(names(&made.rootfs), ["both", "etc", "opq"]);
    assert_eq!(names(&made.rootfs.join("etc")), ["kept"]);
    assert_eq!(
        (names(&made.rootfs.join("opq")), names(&made.rootfs.join("opq/sub"))),
        (vec!["high".into(), "sub".into()], vec!["high".to_owned()])
    );
    assert_eq!(std::fs::read_to_string(made.rootfs.join("both")).unwrap(), "high");
    assert_eq!(made.report.whiteouts, 5);
}

#[test]
fn an_archive_alone_has_no_whiteouts() {
    let (_dir, to) = place();
    let made = unpacked(of(Tar::default().file("a", "").file(".wh.a", "")), &to).unwrap();
    assert_eq!(names(&made.rootfs), [".wh.a", "a"]);
}

/// A directory becomes a link in a layer above: what comes later does not go through it.
#[test]
fn a_directory_that_became_a_link_leads_nowhere() {
    for target in ["/etc", "../../../../etc"] {
        let (dir, to) = place();
        let base = Tar::default().file("d/old", "");
        let error = unpacked(layers(vec![base, Tar::default().link("d", target), Tar::default().file("d/x", "")]), &to);
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("layers[2].entry")), "{error}");
        assert!(names(dir.path()).is_empty());
    }
    let (_dir, to) = place();
    let made = unpacked(
        layers(vec![
            Tar::default().file("d/old", "").dir("e/"),
            Tar::default().link("d", "e").file("d/x", ""),
            Tar::default().dir("d/"),
        ]),
        &to,
    )
    .unwrap();
    assert_eq!((names(&made.rootfs.join("e")), names(&made.rootfs.join("d"))), (vec!["x".to_owned()], vec![]));
}

#[test]
fn kinds_replace_each_other() {
    let (_dir, to) = place();
    let base = Tar::default().file("a/deep/er", "").file("b", "file").link("c", "b").dir("m/");
    let upper =
        Tar::default().file("a", "now a file").dir("b/").file("b/in", "").file("c", "no link").file("m/more", "");
    let made = unpacked(layers(vec![base, upper]), &to).unwrap();
    let read = |name: &str| std::fs::read_to_string(made.rootfs.join(name)).unwrap();
    assert_eq!(
        (read("a"), read("c"), names(&made.rootfs.join("b")), names(&made.rootfs.join("m"))),
        ("now a file".into(), "no link".into(), vec!["in".into()], vec!["more".into()])
    );
    let (_dir, to) = place();
    let error = unpacked(layers(vec![Tar::default(), Tar::default().file(".wh...", "")]), &to).unwrap_err();
    assert_eq!(error.field(), Some("layers[1].entry"));
    assert_eq!(unpacked(Unpack::from_layers([]), &to).unwrap_err().field(), Some("layers"));
}
