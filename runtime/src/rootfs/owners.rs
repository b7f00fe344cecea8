//! Who a file of a root belongs to, on the disk: ids of the container, given away by whoever may.
//!
//! | who we are | its user 0 is | others | given by |
//! |---|---|---|---|
//! | root | 0: the mounts of containers map ids | themselves, below 65,536 | ourselves |
//! | with a range | ourselves | the range's, in its order | a child of a keeper, in its user namespace |
//! | without one | ourselves | not kept, and counted | |
//!
//! An ordinary user may give no file away, and a process with threads cannot enter a user namespace. The keeper has one with
//! our range, and its children may: they get the open files, some hundred at a time, and run nothing (`plan/owners.rs`). It is
//! a keeper of our own, started for the first file that needs it. Blocks; for threads that may.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::limits::quoted;
use crate::error::{Error, ErrorKind};
use crate::ids::subordinate::user::{Extent, Given};
use crate::keeper::{self, Client};
use crate::plan::idmap::IdMap;
use crate::plan::owners::{self, Gift};

/// Files that one child changes: each is a descriptor, of which a message takes two hundred.
const AT_ONCE: usize = 150;

/// Gives files to the ids of containers.
#[derive(Debug)]
pub(super) struct Owners {
    /// What a file belongs to that we make, and its ids inside.
    ours: (u32, u32),
    /// We may give away ourselves.
    direct: bool,
    /// Ids that we have on the disk, of users and of groups.
    range: (Vec<Extent>, Vec<Extent>),
    ids: Option<Ids>,
    queue: Vec<(OwnedFd, Gift, PathBuf)>,
}

/// What is known of the ids of containers.
#[derive(Debug)]
struct Ids {
    map: IdMap,
    keeper: Option<Keeper>,
    /// Why there is one id alone.
    why_single: Option<String>,
}

#[derive(Debug)]
struct Keeper {
    client: Client,
    runtime: tokio::runtime::Runtime,
    driver: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Keeper {
    /// It ends, and is waited for.
    fn drop(&mut self) {
        self.client.close();
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(driver);
        }
    }
}

impl Owners {
    pub(super) fn new() -> Self {
        let direct = keeper::is_privileged();
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // A wrong entry there is no matter here: the keeper that is started then says so.
        let given = if direct { None } else { Given::of(own.0, own.1).ok().flatten() };
        let range = given.map_or_else(Default::default, |given| (given.uids, given.gids));
        Self { ours: if direct { own } else { (0, 0) }, direct, range, ids: None, queue: Vec::new() }
    }

    /// The ids that stand for these in a container, as far as there are any: `None` for those that cannot be kept.
    pub(super) fn kept(&mut self, ids: (u32, u32)) -> Result<(Option<u32>, Option<u32>), Error> {
        if ids == (0, 0) {
            return Ok((Some(0), Some(0)));
        }
        let map = &self.ids()?.map;
        Ok((map.uid.has(ids.0).then_some(ids.0), map.gid.has(ids.1).then_some(ids.1)))
    }

    /// Ids of a file on the disk, as a container sees them. What is neither ours nor of our range is called as it is on this machine.
    pub(super) fn seen(&self, on_disk: (u32, u32)) -> (u32, u32) {
        if self.direct {
            return on_disk;
        }
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        (seen(&self.range.0, ours.0, on_disk.0), seen(&self.range.1, ours.1, on_disk.1))
    }

    /// Why the owners of some files could not be kept, where that is so because there is one id alone.
    pub(super) fn why_single(&self) -> Option<&str> {
        self.ids.as_ref()?.why_single.as_deref()
    }

    /// A file that we have made belongs to these already.
    pub(super) fn is_ours(&self, ids: (u32, u32)) -> bool {
        ids == self.ours
    }

    /// We may change what belongs to others.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Give the file away; done by the next [`flush`](Self::flush) at the latest.
    pub(super) fn give(&mut self, file: OwnedFd, gift: Gift, path: PathBuf) -> Result<(), Error> {
        if self.direct {
            return give(&file, &gift).map_err(|error| failed(&path, error));
        }
        self.queue.push((file, gift, path));
        if self.queue.len() >= AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// All that was given away is.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let queue = std::mem::take(&mut self.queue);
        if queue.is_empty() {
            return Ok(());
        }
        let (mut files, mut gifts, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        for (file, gift, path) in queue {
            files.push(file);
            gifts.push(gift);
            paths.push(path);
        }
        let plan = owners::give(&gifts);
        let ids = self.ids()?;
        let Some(keeper) = &ids.keeper else {
            let why = ids.why_single.clone().unwrap_or_default();
            return Err(Error::new(ErrorKind::Unsupported, why).with_field("owners"));
        };
        match keeper.runtime.block_on(crate::native::errand(&keeper.client, &plan, files))? {
            Ok(()) => Ok(()),
            Err((step, errno)) => {
                let path = owners::about(&plan, step).and_then(|index| paths.get(index)).cloned().unwrap_or_default();
                Err(failed(&path, Errno::from_raw_os_error(errno)))
            }
        }
    }

    fn ids(&mut self) -> Result<&Ids, Error> {
        if self.ids.is_none() {
            self.ids = Some(if self.direct { Ids::direct() } else { Ids::mapped()? });
        }
        self.ids.as_ref().ok_or_else(|| Error::new(ErrorKind::System, "no ids"))
    }
}

impl Ids {
    fn direct() -> Self {
        Self { map: IdMap::range((0, 0), crate::ids::COUNT), keeper: None, why_single: None }
    }

    /// As the keepers of our supervisors have them.
    fn mapped() -> Result<Self, Error> {
        let single = |keeper, why: String| {
            let map = IdMap::single(0, 0, 0, 0);
            Self { map, keeper, why_single: Some(why) }
        };
        let launched = match keeper::launch(None) {
            Ok(launched) => launched,
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(single(None, error.to_string())),
            Err(error) => return Err(error),
        };
        let map = launched.ids.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Error::system("cannot begin a conversation with the keeper", error))?;
        let (client, driver) = {
            let _entered = runtime.enter();
            Client::new(launched)
        };
        let driver = Some(runtime.spawn(driver.run()));
        let keeper = Some(Keeper { client, runtime, driver });
        let no_range = || "this user has no range in /etc/subuid and /etc/subgid that can be used".to_owned();
        Ok(match map {
            Some(map) => Self { map, keeper, why_single: None },
            None => single(keeper, no_range()),
        })
    }
}

/// One id, by the order in which the keeper's map has those of our range.
fn seen(range: &[Extent], own: u32, id: u32) -> u32 {
    let mut inside = 1;
    for extent in range {
        match id.checked_sub(extent.start) {
            Some(at) if at < extent.count => return inside + at,
            _ => inside += extent.count,
        }
    }
    if id == own { 0 } else { id }
}

/// With our own rights.
fn give(file: &OwnedFd, gift: &Gift) -> Result<(), Errno> {
    let ids = (Some(Uid::from_raw(gift.uid)), Some(Gid::from_raw(gift.gid)));
    rustix::fs::chownat(file.as_fd(), "", ids.0, ids.1, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(mode) = gift.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    if let Some(capability) = &gift.capability {
        rustix::fs::fsetxattr(file, "security.capability", capability, XattrFlags::empty())?;
    }
    Ok(())
}

fn failed(path: &std::path::Path, error: Errno) -> Error {
    let what = format!("cannot give {} to the ids it belongs to", quoted(path.as_os_str().as_bytes()));
    Error::system(what, error).with_field("owners")
}
