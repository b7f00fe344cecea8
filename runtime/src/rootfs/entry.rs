//! One thing of a root file system, wherever it comes from.

/// What stands in an archive, or lies in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its path as it was written: nothing is known about it yet.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// User and group, as the container is to see them.
    pub ids: (u32, u32),
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File(Extent),
    /// A directory.
    Directory,
    /// A symbolic link that says this.
    Symlink(Vec<u8>),
    /// Another name of an entry before it.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A device of characters or of blocks.
    Device,
    /// A socket: of a directory alone.
    Socket,
}

/// How large a file is, and where in it there is content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Its size.
    pub size: u64,
    /// Offset and length of each piece, in order and apart from each other, and within the size; `None`: all of it is one.
    pub pieces: Option<Vec<(u64, u64)>>,
}

impl Extent {
    /// A file without holes.
    #[must_use]
    pub fn whole(size: u64) -> Self {
        Self { size, pieces: None }
    }

    /// Bytes that are content.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.pieces.as_ref().map_or(self.size, |pieces| pieces.iter().map(|piece| piece.1).sum())
    }
}
