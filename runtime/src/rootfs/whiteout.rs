//! What a layer takes away of those below it, as OCI images say it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use super::entry::Entry;
use super::tree::{DIRECTORY, Place, STRICT, Tree, failed, open, refused};
use crate::error::Error;

impl Tree<'_> {
    /// `.wh.NAME`: what the layers below have there is gone; `.wh..wh..opq`: so is all that they have in this directory.
    pub(super) fn whiteout(&mut self, entry: &Entry, path: &Path, hidden: &[u8]) -> Result<(), Error> {
        let above = path.parent().unwrap_or(Path::new(""));
        let place = self.place(above, &entry.path)?;
        if hidden == b".wh..opq" {
            self.note(&place.path);
            self.hide_all(&place, &entry.path)?;
        } else if hidden.starts_with(b".wh.") {
            return Ok(());
        } else if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(&entry.path, "a whiteout of nothing"));
        } else {
            self.hide(&place, OsStr::from_bytes(hidden), &entry.path)?;
        }
        self.report.whiteouts += 1;
        Ok(())
    }

    fn hide(&mut self, place: &Place, name: &OsStr, entry: &[u8]) -> Result<(), Error> {
        let real = place.path.join(name);
        if !self.placed.as_ref().is_some_and(|placed| placed.contains(&real)) {
            return self.clear(place, name, &real);
        }
        // This layer has put it there; only what it has not is gone.
        if self.is_directory(place, name) {
            let dir = open(&place.dir, Path::new(name), DIRECTORY, STRICT);
            let dir = Rc::new(dir.map_err(|error| failed("open the directory of", entry, error))?);
            self.hide_all(&Place { dir, path: real }, entry)?;
        }
        Ok(())
    }

    /// As deep as the tree is, which is bounded.
    fn hide_all(&mut self, place: &Place, entry: &[u8]) -> Result<(), Error> {
        let mut list = super::remove::listing(&place.dir)?;
        let mut names: Vec<OsString> = Vec::new();
        while let Some(name) = super::remove::next_name(&mut list)? {
            names.push(name);
        }
        drop(list);
        names.iter().try_for_each(|name| self.hide(place, name, entry))
    }
}
