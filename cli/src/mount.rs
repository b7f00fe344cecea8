//! `--mount type=bind,src=/data,dst=/data,ro`: one text becomes one mount.

use std::path::{Path, PathBuf};

use orangery::runtime::spec::size::parse_size;
use orangery::{Mount, MountSource, Propagation};

use crate::start::absolute;

const FORM: &str = "write type=bind,src=HOST,dst=INSIDE[,ro][,noexec][,propagation=private|slave] \
                    or type=tmpfs,dst=INSIDE[,ro][,noexec][,size=SIZE]";

/// What was said so far.
#[derive(Default)]
struct Said<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    size: Option<&'a str>,
    read_only: Option<bool>,
    no_exec: Option<bool>,
    propagation: Option<Propagation>,
}

/// One mount. A relative source is taken from the current directory.
///
/// # Errors
/// Not of that form; the sentence says what it is missing.
pub(crate) fn parse(text: &str) -> Result<Mount, String> {
    let mut said = Said::default();
    for part in text.split(',') {
        said.take(part).map_err(|why| format!("{why}: {FORM}"))?;
    }
    said.finish().map_err(|why| format!("{why}: {FORM}"))
}

fn once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    match place.replace(value) {
        Some(_) => Err(format!("{name} is given twice")),
        None => Ok(()),
    }
}

/// What is possible is for the check to say: it has the reasons.
fn propagation(text: &str) -> Result<Propagation, String> {
    match text {
        "private" => Ok(Propagation::Private),
        "slave" => Ok(Propagation::Slave),
        "shared" => Ok(Propagation::Shared),
        other => Err(format!("{other:?} is no propagation")),
    }
}

impl<'a> Said<'a> {
    fn take(&mut self, part: &'a str) -> Result<(), String> {
        match part.split_once('=') {
            Some(("type", value)) => once(&mut self.kind, value, "type"),
            Some(("src" | "source", value)) => once(&mut self.source, value, "src"),
            Some(("dst" | "destination" | "target", value)) => once(&mut self.target, value, "dst"),
            Some(("size", value)) => once(&mut self.size, value, "size"),
            Some(("propagation", value)) => once(&mut self.propagation, propagation(value)?, "propagation"),
            None if part == "noexec" => once(&mut self.no_exec, true, "noexec"),
            None if part == "exec" => once(&mut self.no_exec, false, "noexec"),
            None if part == "ro" || part == "readonly" => once(&mut self.read_only, true, "ro"),
            None if part == "rw" => once(&mut self.read_only, false, "ro"),
            _ => Err(format!("{part:?} is no part of a mount")),
        }
    }

    fn finish(self) -> Result<Mount, String> {
        let target = match self.target {
            Some(target) if !target.is_empty() => PathBuf::from(target),
            _ => return Err("dst is missing".into()),
        };
        let source = match (self.kind, self.source, self.size) {
            (None, ..) => return Err("type is missing".into()),
            (Some("bind"), Some(source), None) if !source.is_empty() => MountSource::Bind(absolute(Path::new(source))),
            (Some("bind"), _, Some(_)) => return Err("a bind has no size".into()),
            (Some("bind"), ..) => return Err("src is missing".into()),
            (Some("tmpfs"), None, size) => MountSource::Tmpfs { size: size.map(parse_size).transpose()? },
            (Some("tmpfs"), Some(_), _) => return Err("a tmpfs has no src".into()),
            (Some(other), ..) => return Err(format!("{other:?} is no type of mount")),
        };
        let mut mount = Mount::new(source, target).propagation(self.propagation.unwrap_or_default());
        mount.read_only = self.read_only.unwrap_or(false);
        mount.no_exec = self.no_exec.unwrap_or(false);
        Ok(mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms() {
        let bind = parse("type=bind,src=/a,dst=/b,ro").unwrap();
        assert_eq!(bind.source, MountSource::Bind("/a".into()));
        assert_eq!((bind.target, bind.read_only), ("/b".into(), true));
        let tmpfs = parse("type=tmpfs,target=/t,size=1M").unwrap();
        assert_eq!(tmpfs.source, MountSource::Tmpfs { size: Some(1 << 20) });
        assert!(!tmpfs.read_only);
        let slave = parse("type=bind,src=/a,dst=/b,ro,noexec,propagation=slave").unwrap();
        assert_eq!(slave, Mount::bind("/a", "/b").read_only().no_exec().propagation(Propagation::Slave));
        assert_eq!(parse("type=tmpfs,dst=/t,noexec").unwrap(), Mount::tmpfs("/t").no_exec());
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("type=bind,src=.,dst=/b").unwrap().source, MountSource::Bind(here));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("", "\"\" is no part"),
            ("src=/a,dst=/b", "type is missing"),
            ("type=bind,dst=/b", "src is missing"),
            ("type=bind,src=/a", "dst is missing"),
            ("type=bind,src=/a,dst=/b,size=1M", "no size"),
            ("type=tmpfs,src=/a,dst=/b", "no src"),
            ("type=tmpfs,dst=/b,size=1Q", "not a size"),
            ("type=proc,dst=/b", "\"proc\" is no type"),
            ("type=bind,src=/a,dst=/b,dst=/c", "twice"),
            ("type=bind,src=/a,dst=/b,ro,rw", "twice"),
            ("type=bind,src=/a,dst=/b,shared", "\"shared\" is no part"),
            ("type=bind,src=/a,dst=/b,propagation=rslave", "\"rslave\" is no propagation"),
            ("type=bind,src=/a,dst=/b,noexec,exec", "twice"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why) && said.contains("write type="), "{text}: {said}");
        }
    }
}
