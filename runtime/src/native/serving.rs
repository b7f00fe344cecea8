//! A root that `fuse-overlayfs` serves: what a container that is being made waits for, and what is there as long as it lives.
//!
//! ```text
//!  the container's child          here                         beside it
//!  mounts the file system
//!  sends device and scratch ───► starts guard and server ───► serves the device
//!  looks something up ◄───────────────────────────────────── answers
//! ```
//!
//! The device is closed everywhere else: a server that ends leaves errors, and nothing that waits.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;

use super::Inner;
use super::helper::{Helper, candidates, find};
use super::janitor::Rests;
use super::report::{Report, Said};
use crate::error::{Error, ErrorKind};
use crate::keeper;
use crate::plan::helper;
use crate::plan::idmap::IdMap;
use crate::plan::layers::FUSE;
use crate::plan::server::{self, Shape};
use crate::plan::wire::Purpose;

/// The program.
const PROGRAM: &str = "fuse-overlayfs";

/// It could be used, as far as that can be said beforehand.
///
/// # Errors
/// The program is not installed, or /dev/fuse is not there or cannot be opened by this user.
pub(crate) fn look() -> Result<(), Error> {
    let missing = || {
        let error = Error::new(ErrorKind::NotFound, format!("the program {PROGRAM} is not installed"));
        error.with_field("rootfs").with_hint(format!("install the package {PROGRAM}"))
    };
    find(PROGRAM).ok_or_else(missing)?;
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(FUSE);
    let closed = |error| {
        let why = format!("{FUSE} has to be there (modprobe fuse) and open to this user (chmod 0666, as udev has it)");
        Error::system(format!("cannot open {FUSE}"), error).with_field("rootfs").with_hint(why)
    };
    opened.map(drop).map_err(closed)
}

/// What the container is served with.
pub(super) struct Served<'a> {
    pub(super) inner: &'a Inner,
    /// Where the container sends it.
    pub(super) channel: OwnedFd,
    pub(super) ids: Option<IdMap>,
    pub(super) shape: Shape,
}

impl Served<'_> {
    /// Serve it, and wait for what it says then. The helper is in `rests` before it is there.
    pub(super) async fn until_ready(self, report: &Report, rests: &mut Rests) -> Result<Said, Error> {
        let (device, scratch) = tokio::select! {
            both = both(&self.channel) => match both? {
                Some(both) => both,
                // It has ended before it was so far, and says why.
                None => return report.next().await,
            },
            said = report.next() => return said,
        };
        let helper = Helper::new(self.inner, rests.init()?, self.ids);
        let helper = Arc::clone(rests.serving.insert(helper));
        if let Err(error) = serve(&helper, device, scratch, self.shape).await {
            // Where that was the container's end, it knows better.
            return match super::lives(&*rests.init()?) {
                true => Err(error.with_field("rootfs")),
                false => report.next().await,
            };
        }
        let said = tokio::select! {
            said = report.next() => said?,
            () = helper.gone() => return Err(lost(&helper).await),
        };
        match said {
            // Nobody answered it any more.
            Said::Failed(_, libc::ENOTCONN | libc::ECONNABORTED) => Err(lost(&helper).await),
            said => Ok(said),
        }
    }
}

async fn lost(helper: &Helper) -> Error {
    helper.gone().await;
    let words = helper.words();
    let words = if words.is_empty() { "without a word" } else { words.as_str() };
    Error::new(ErrorKind::Creation, format!("{PROGRAM} has ended: {words}")).with_field("rootfs")
}

async fn serve(helper: &Helper, device: OwnedFd, scratch: OwnedFd, shape: Shape) -> Result<(), Error> {
    let (nofile, ids) = helper.ground();
    let guard = helper::guard("rootfs", "orangery-root", ids);
    let plan = server::server(ids, nofile, &candidates(PROGRAM), shape);
    helper.run(&guard, &plan, vec![device], Some(scratch)).await
}

/// The device and the scratch; `None`: their sender has ended without them.
async fn both(channel: &OwnedFd) -> Result<Option<(OwnedFd, OwnedFd)>, Error> {
    let failed = |error: std::io::Error| Error::system("cannot hear of a root that is to be served", error);
    let channel = crate::sys::watch(channel.try_clone().map_err(failed)?, Interest::READABLE).map_err(failed)?;
    let mut device = None;
    loop {
        let mut guard = channel.readable().await.map_err(failed)?;
        let heard = match keeper::receive(channel.get_ref()) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                guard.clear_ready();
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.into())),
            Ok(None) => return Ok(None),
            Ok(Some(heard)) => heard.brought.flatten(),
        };
        match device.take() {
            None => device = Some(keeper::expect(heard, Purpose::Fuse)?),
            Some(device) => return Ok(Some((device, keeper::expect(heard, Purpose::Tree)?))),
        }
    }
}
