//! The list of mounts: types, sources, and what each word of their options means.

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use super::Refusals;
use super::namespaces::ranges;
use crate::spec::{ContainerSpec, Exact, IdRanges, Mount, MountIds, MountSource};

/// `MOUNT_ATTR_*` of mount_setattr(2).
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// `MS_*` of mount(2).
const MS_REC: u64 = 0x4000;

/// Word, what it sets, what it takes away. With an `r` before it, it is about everything below too.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
    ("noatime", NOATIME, ATIME),
    ("relatime", 0, ATIME),
    ("atime", 0, ATIME),
    ("norelatime", 0, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
];

/// Changes of propagation.
const PROPAGATION: [(&str, u64); 4] =
    [("private", 1 << 18), ("slave", 1 << 19), ("shared", 1 << 20), ("unbindable", 1 << 17)];

/// Flags of a file system, which a bind mount has none of.
const FLAGS: [&str; 7] = ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];

/// Words that change nothing.
const NOTHING: [&str; 6] = ["defaults", "bind", "silent", "loud", "iversion", "noiversion"];

/// What is done by us.
const OWN: [&str; 5] = ["rbind", "remount", "tmpcopyup", "idmap", "ridmap"];

/// `MS_*` of a word such as `rslave`.
pub(super) fn propagation(word: &str) -> Option<u64> {
    PROPAGATION.iter().find_map(|(name, flag)| {
        let recursive = word.strip_prefix('r').is_some_and(|rest| rest == *name);
        (recursive || word == *name).then_some(if recursive { flag | MS_REC } else { *flag })
    })
}

/// Every word that means something here, in order.
pub(super) fn words() -> Vec<String> {
    let both = |name: &&str| [(*name).to_owned(), format!("r{name}")];
    let names = ATTRIBUTES.iter().map(|(name, ..)| name).chain(PROPAGATION.iter().map(|(name, _)| name));
    let single = FLAGS.iter().chain(&NOTHING).chain(&OWN).map(|name| (*name).to_owned());
    let mut words: Vec<String> = names.flat_map(both).chain(single).collect();
    words.sort_unstable();
    words
}

pub(super) fn convert(no: &mut Refusals, bundle: &Path, spec: &oci::Spec, container: &mut ContainerSpec) {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let field = format!("mounts[{index}]");
        match one(bundle, mount).and_then(|made| with_ids(mount, made)) {
            Ok(mount) => container.mounts.push(mount),
            Err(why) => no.add(&field, why),
        }
    }
}

/// Whose its files are. Maps without the word are meant too; they are about what is mounted below it only by `ridmap`.
fn with_ids(mount: &oci::Mount, mut made: Mount) -> Result<Mount, String> {
    let words = || mount.options().iter().flatten().map(String::as_str);
    let (uid, gid) = (mount.uid_mappings(), mount.gid_mappings());
    let given = |maps: &Option<Vec<oci::LinuxIdMapping>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    let maps = match (given(uid), given(gid)) {
        (true, true) => Some(IdRanges { uid: ranges(uid), gid: ranges(gid) }),
        (false, false) => None,
        _ => return Err("uidMappings and gidMappings go together".into()),
    };
    if maps.is_some() || words().any(|word| matches!(word, "idmap" | "ridmap")) {
        let below = words().rfind(|word| matches!(*word, "idmap" | "ridmap")) == Some("ridmap");
        let exact = made.exact.get_or_insert_default();
        exact.ids = Some(MountIds { maps, below });
    }
    Ok(made)
}

fn one(bundle: &Path, mount: &oci::Mount) -> Result<Mount, String> {
    let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
    let kind = mount.typ().as_deref().unwrap_or("none");
    let is_bind = kind == "bind" || options.iter().any(|option| matches!(*option, "bind" | "rbind"));
    // A destination that is not absolute is meant from the root on.
    let target = Path::new("/").join(mount.destination());
    let mut exact = Exact { single: is_bind && !options.contains(&"rbind"), ..Exact::default() };
    let mut data = Vec::new();
    for option in options {
        if !apply(&mut exact, option) {
            match option {
                "remount" => exact.remount = true,
                "tmpcopyup" => exact.copy_up = true,
                "idmap" | "ridmap" => {}
                _ if FLAGS.contains(&option) && is_bind => {}
                _ if is_bind => return Err(format!("{option:?} is no option of a bind mount")),
                _ => {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    data.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }
    let source = if exact.remount {
        // Of a bind mount it is about the mount alone, and what is its source was decided when it was made.
        let kind = if is_bind { "none" } else { kind }.to_owned();
        MountSource::FileSystem { kind, source: String::new(), options: data }
    } else if is_bind {
        let source = mount.source().clone().ok_or("a bind mount needs a source")?;
        MountSource::Bind(std::path::absolute(bundle.join(source)).map_err(|error| error.to_string())?)
    } else if kind == "none" || kind.is_empty() {
        return Err("a mount needs a type".into());
    } else {
        let source = mount.source().as_ref().map(PathBuf::as_path).unwrap_or(Path::new("")).to_string_lossy();
        MountSource::FileSystem { kind: kind.to_owned(), source: source.into_owned(), options: data }
    };
    let mut made = Mount::new(source, target);
    made.exact = Some(exact);
    Ok(made)
}

/// The last word counts. `false`: it is none of these.
fn apply(exact: &mut Exact, word: &str) -> bool {
    let change = |(set, clear): (&mut u64, &mut u64), (_, on, off): &(&str, u64, u64)| {
        *set = *set & !off | on;
        // What is set in the place of what was there has that taken away as well (MOUNT_ATTR__ATIME).
        *clear = *clear & !(on & !ATIME) | off;
    };
    let find = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
    if let Some(attribute) = find(word) {
        change((&mut exact.set, &mut exact.clear), attribute);
    } else if let Some(attribute) = word.strip_prefix('r').and_then(find) {
        change((&mut exact.set_below, &mut exact.clear_below), attribute);
    } else if let Some(flags) = propagation(word) {
        exact.propagation.push(flags);
    } else if word == "rbind" {
        exact.single = false;
    } else {
        return NOTHING.contains(&word) || word.starts_with("x-");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(json: &str) -> Result<Mount, String> {
        one(Path::new("/bundle"), &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_last_word_counts() {
        let exact = |options: &[&str]| {
            let mut exact = Exact::default();
            assert!(options.iter().all(|option| apply(&mut exact, option)), "{options:?}");
            (exact.set, exact.clear, exact.set_below, exact.clear_below)
        };
        assert_eq!(exact(&["ro", "nosuid"]), (RDONLY | NOSUID, 0, 0, 0));
        assert_eq!(exact(&["ro", "rw"]), (0, RDONLY, 0, 0));
        assert_eq!(exact(&["rw", "ro"]), (RDONLY, 0, 0, 0));
        assert_eq!(exact(&["noatime"]), (NOATIME, ATIME, 0, 0));
        assert_eq!(exact(&["noatime", "relatime"]), (0, ATIME, 0, 0));
        assert_eq!(exact(&["rro", "rnodev", "dev"]), (0, NODEV, RDONLY | NODEV, 0));
        assert_eq!(exact(&["rstrictatime"]), (0, 0, STRICTATIME, ATIME));
        assert_eq!(
            (propagation("rslave"), propagation("shared"), propagation("rrw")),
            (Some(1 << 19 | MS_REC), Some(1 << 20), None)
        );
    }

    #[test]
    fn types_and_sources() {
        let tmpfs = mount(
            r#"{"destination":"run","type":"tmpfs","source":"tmpfs","options":["nosuid","size=64k","mode=755","sync"]}"#,
        )
        .unwrap();
        assert_eq!(tmpfs.target, Path::new("/run"));
        let MountSource::FileSystem { kind, options, .. } = &tmpfs.source else { panic!("{tmpfs:?}") };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            (kind.as_str(), &options[..]),
            ("tmpfs", &[pair("size", "64k"), pair("mode", "755"), pair("sync", "")][..])
        );
        let bind = mount(r#"{"destination":"/d","source":"d","options":["bind","rprivate"]}"#).unwrap();
        assert_eq!(bind.source, MountSource::Bind("/bundle/d".into()));
        assert!(bind.exact.as_ref().is_some_and(|exact| exact.single && exact.propagation == [1 << 18 | MS_REC]));
        let deep = mount(r#"{"destination":"/d","type":"bind","source":"/d","options":["rbind"]}"#).unwrap();
        assert!(deep.exact.is_some_and(|exact| !exact.single));
        let again = mount(r#"{"destination":"/d","type":"tmpfs","options":["remount","ro","size=1m"]}"#).unwrap();
        let MountSource::FileSystem { kind, options, .. } = &again.source else { panic!("{again:?}") };
        assert_eq!((kind.as_str(), &options[..]), ("tmpfs", &[pair("size", "1m")][..]));
        let again = mount(r#"{"destination":"/d","options":["bind","remount","ro"]}"#).unwrap();
        assert!(again.exact.is_some_and(|exact| exact.remount && exact.set == RDONLY));
        for wrong in [
            r#"{"destination":"/d","options":["bind"]}"#,
            r#"{"destination":"/d","source":"/d"}"#,
            r#"{"destination":"/d","source":"/d","options":["bind","size=1"]}"#,
        ] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whose_the_files_of_a_mount_are() {
        let ids = |rest: &str| {
            let json = format!(r#"{{"destination":"/d","type":"bind","source":"/d",{rest}}}"#);
            let mount: oci::Mount = serde_json::from_str(&json).unwrap();
            one(Path::new("/bundle"), &mount)
                .and_then(|made| with_ids(&mount, made))
                .map(|made| made.exact.unwrap().ids)
        };
        let one = r#"[{"containerID":0,"hostID":5,"size":1}]"#;
        let both = format!(r#""uidMappings":{one},"gidMappings":{one}"#);
        assert_eq!(ids(r#""options":["rbind"]"#), Ok(None));
        assert_eq!(ids(r#""options":["bind","idmap"]"#), Ok(Some(MountIds::default())));
        let maps = ids(&both).unwrap().unwrap();
        assert!(!maps.below && maps.maps.is_some_and(|maps| maps.uid[0].outside == 5 && maps.gid[0].count == 1));
        assert!(ids(&format!(r#"{both},"options":["rbind","ridmap"]"#)).unwrap().unwrap().below);
        assert!(ids(&format!(r#""uidMappings":{one}"#)).is_err());
    }
}
