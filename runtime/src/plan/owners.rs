//! Plans that give files to ids which only the keeper's user namespace has: for whoever makes or removes a tree there and
//! may not do so himself. A child of the keeper gets the open files, changes them, and ends.

use super::encode::{Builder, Need, Plan, Slot};
use super::wire::Op;

/// What becomes of one open file. The ids are those of the keeper's user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gift {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, which a change of owner takes some of. Not for what is open as a path only.
    pub mode: Option<u32>,
    /// `security.capability`, which a change of owner takes away.
    pub capability: Option<Vec<u8>>,
}

/// Give each of the files that come along what it is to have, in this order.
#[must_use]
pub fn give(gifts: &[Gift]) -> Plan {
    let needs: Vec<Need> = (0..gifts.len()).filter_map(|index| u16::try_from(index).ok().map(Need::File)).collect();
    let mut b = Builder::new(&needs);
    b.field("owners");
    for (need, gift) in needs.iter().zip(gifts) {
        let file = b.received(*need).unwrap_or(Slot::CWD);
        b.chown(file, "", gift.uid, gift.gid);
        if let Some(mode) = gift.mode {
            b.chmod(file, mode);
        }
        if let Some(capability) = &gift.capability {
            b.set_xattr(file, "security.capability", capability);
        }
    }
    // Without this word it has ended otherwise.
    b.op(Op::Ready, 0, 0, 0).op(Op::Quit, 0, 0, 0);
    b.finish()
}

/// Which file a step of such a plan is about.
#[must_use]
pub fn about(plan: &Plan, step: u16) -> Option<usize> {
    // The report pipe is the first of what is received.
    let slot = usize::try_from(plan.step(step)?.a).ok()?;
    slot.checked_sub(1)
}
