//! What the daemon writes down: one small file for each container, whole or not at all, and where its log is.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::registry::Asked;

/// Version of the records.
pub(super) const SCHEMA: u32 = 1;

/// The daemon's own rooms in the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    asked: PathBuf,
    logs: PathBuf,
    aside: PathBuf,
    /// Logs on their way out.
    gone: PathBuf,
}

impl Store {
    /// Make them where they are missing.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let own = state_dir.join("serve");
        let store =
            Self { asked: own.join("asked"), logs: own.join("logs"), aside: own.join("aside"), gone: own.join("gone") };
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        // What the last one was killed over.
        gone(fs::remove_dir_all(&store.gone))?;
        [&store.asked, &store.logs, &store.aside, &store.gone].into_iter().try_for_each(|dir| private.create(dir))?;
        Ok(store)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    fn file(&self, name: &str) -> PathBuf {
        // A point ends a name of ours, so that no name can be that of a temporary file.
        self.asked.join(format!("{name}.json"))
    }

    /// # Errors
    /// What the system says; nothing is written then.
    pub(super) fn write(&self, name: &str, asked: &Asked) -> io::Result<()> {
        let temporary = self.asked.join(format!("{name}.new"));
        let written = || {
            let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&serde_json::to_vec(asked)?)?;
            file.sync_data()?;
            fs::rename(&temporary, self.file(name))
        };
        written().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Its record and its log; what is not there is gone.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        // At once: a file of it may still be about to be compressed, into a directory that is to be empty.
        let place = self.gone.join(name);
        gone(fs::remove_dir_all(&place))?;
        gone(fs::rename(self.log(name), &place))?;
        gone(fs::remove_dir_all(&place))?;
        gone(fs::remove_file(self.file(name)))
    }

    /// All that is written down. What cannot be read is set aside, and said.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn all(&self) -> io::Result<Vec<(String, Asked)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.asked)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match name.strip_suffix(".json") {
                Some(name) => match read(&path) {
                    Ok(asked) => all.push((name.to_owned(), asked)),
                    Err(why) => self.set_aside(&path, &why),
                },
                // Half a record of a daemon that was killed.
                None => fs::remove_file(&path)?,
            }
        }
        Ok(all)
    }

    fn set_aside(&self, path: &Path, why: &str) {
        let to = path.file_name().map(|name| self.aside.join(name));
        let moved = to.map(|to| fs::rename(path, &to).map(|()| to));
        tracing::error!(path = %path.display(), why, ?moved, "a record that cannot be read is set aside");
    }
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn read(path: &Path) -> Result<Asked, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let asked: Asked = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if asked.schema == SCHEMA { Ok(asked) } else { Err(format!("its version is {}, and not {SCHEMA}", asked.schema)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Create;

    #[test]
    fn whole_records_come_back_and_others_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let asked = Asked { schema: SCHEMA, create: Create::default(), created_at_ms: 7, group: None, key: None };
        store.write("good", &asked).unwrap();
        store.write("newer", &Asked { schema: SCHEMA + 1, ..asked.clone() }).unwrap();
        fs::write(store.file("torn"), "{\"schema\":1,").unwrap();
        fs::write(store.asked.join("half.new"), "{").unwrap();
        let all = store.all().unwrap();
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["good"]);
        let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
        assert_eq!((left(&store.asked), left(&store.aside)), (1, 2));
        fs::create_dir(store.log("good")).unwrap();
        store.remove("good").unwrap();
        store.remove("good").unwrap();
        assert_eq!((left(&store.asked), left(&store.logs)), (0, 0));
    }
}
