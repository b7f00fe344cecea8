//! What each actor accepts, by the names that its mailbox is asked about with.

use super::Site;

/// A kind of site and the names of its messages.
type Mailbox = (fn(&'static str) -> Site, &'static [&'static str]);

const MAILBOXES: [Mailbox; 5] = [
    (
        Site::ManagerMessage,
        &["create", "gone", "list", "find", "supervise", "service gone", "find service", "list services", "shut down"],
    ),
    (Site::ServiceMessage, &["start", "stop", "news", "close"]),
    (Site::GroupMessage, &["start", "stop", "news", "close"]),
    (Site::ContainerMessage, &["exec", "pause", "socket", "update", "stats", "removed"]),
    (Site::ProcessMessage, &["signal", "stop", "prepared", "exited"]),
];

impl Site {
    /// Every message of every actor: for a test that makes each fail.
    ///
    /// ```
    /// use orangery::faults::Site;
    /// assert!(Site::mailboxes().any(|site| site == Site::ProcessMessage("stop")));
    /// ```
    pub fn mailboxes() -> impl Iterator<Item = Self> {
        MAILBOXES.into_iter().flat_map(|(site, names)| names.iter().map(move |name| site(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(dir: &Path, to: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, to);
            } else {
                to.push(path);
            }
        }
    }

    /// What stands in quotation marks.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('"').skip(1).step_by(2)
    }

    /// Each handler of an actor, in the code as it is, asks about its message by a name, and the names are those above.
    #[test]
    fn every_handler_asks_by_a_name_that_is_listed() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut found = BTreeSet::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            // Not this file, in which the word stands as well.
            for handler in text.split("\nimpl Handler<").skip(1).filter(|_| !file.ends_with("faults/messages.rs")) {
                let actor = handler.split(" for ").nth(1).unwrap().split("Actor").next().unwrap();
                let asked = handler.find(".open(").or_else(|| handler.find(".admit("));
                let asked =
                    asked.unwrap_or_else(|| panic!("{}: a handler of {actor}Actor asks nobody", file.display()));
                let call = handler[asked..].lines().next().unwrap();
                // An empty one is the container that a message is about.
                let names: Vec<_> = quoted(&handler[..asked + call.len()]).filter(|name| !name.is_empty()).collect();
                assert!(!names.is_empty(), "{}: {call}", file.display());
                found.extend(names.iter().map(|name| format!("{actor}Message({name:?})")));
            }
        }
        let listed: BTreeSet<_> = Site::mailboxes().map(|site| format!("{site:?}")).collect();
        assert_eq!(found, listed);
    }
}
