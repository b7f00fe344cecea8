//! An initramfs: a cpio archive in the `newc` format, as the kernel's buffer-format.rst has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// An archive under construction. Directories come before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory of mode 0755.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path.as_bytes(), 0o040_755, (0, 0), &[]);
    }

    /// A copy of a file, executable by everybody.
    pub(crate) fn program(&mut self, path: &str, from: &Path) -> io::Result<()> {
        self.entry(path.as_bytes(), 0o100_755, (0, 0), &fs::read(from)?);
        Ok(())
    }

    /// A file of mode 0644.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path.as_bytes(), 0o100_644, (0, 0), content);
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path.as_bytes(), 0o120_777, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path.as_bytes(), 0o020_600, number, &[]);
    }

    /// Write it to a file.
    pub(crate) fn finish(mut self, to: PathBuf) -> io::Result<PathBuf> {
        self.entry(b"TRAILER!!!", 0, (0, 0), &[]);
        fs::write(&to, &self.bytes)?;
        Ok(to)
    }

    fn entry(&mut self, path: &[u8], mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file below 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a short name");
        // inode, mode, uid, gid, links, mtime, size, device (2), this device (2), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name, 0];
        let head: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
