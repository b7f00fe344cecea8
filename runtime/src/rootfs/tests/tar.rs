//! Archives as tests want them, wrong ones too.

/// An archive that is being written.
#[derive(Clone, Debug, Default)]
pub(in crate::rootfs) struct Tar(Vec<u8>);

/// One header; what is not said is as of a file of root.
#[derive(Clone, Debug)]
pub(in crate::rootfs) struct Head {
    pub(in crate::rootfs) name: Vec<u8>,
    pub(in crate::rootfs) kind: u8,
    pub(in crate::rootfs) mode: u32,
    pub(in crate::rootfs) ids: (u32, u32),
    pub(in crate::rootfs) link: Vec<u8>,
    pub(in crate::rootfs) size: u64,
    pub(in crate::rootfs) mtime: u64,
}

impl Head {
    pub(in crate::rootfs) fn new(name: impl AsRef<[u8]>, kind: u8) -> Self {
        let (name, link) = (name.as_ref().to_vec(), Vec::new());
        Self { name, kind, mode: 0o644, ids: (0, 0), link, size: 0, mtime: 1_000_000_000 }
    }

    pub(in crate::rootfs) fn bytes(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.ids.0).as_bytes());
        put(116, format!("{:07o}\0", self.ids.1).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        summed(block)
    }
}

/// With the sum that it should have.
pub(in crate::rootfs) fn summed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

impl Tar {
    pub(in crate::rootfs) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(in crate::rootfs) fn head(self, head: &Head) -> Self {
        self.raw(&head.bytes())
    }

    /// Content in whole blocks.
    pub(in crate::rootfs) fn content(self, content: &[u8]) -> Self {
        let padding = vec![0; (512 - content.len() % 512) % 512];
        self.raw(content).raw(&padding)
    }

    pub(in crate::rootfs) fn of(self, mut head: Head, content: &[u8]) -> Self {
        head.size = content.len() as u64;
        self.head(&head).content(content)
    }

    pub(in crate::rootfs) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.of(Head::new(name, b'0'), content.as_ref())
    }

    pub(in crate::rootfs) fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.head(&Head { mode: 0o755, ..Head::new(name, b'5') })
    }

    pub(in crate::rootfs) fn link(self, name: impl AsRef<[u8]>, text: &str) -> Self {
        self.head(&Head { link: text.into(), ..Head::new(name, b'2') })
    }

    pub(in crate::rootfs) fn hard(self, name: impl AsRef<[u8]>, target: &str) -> Self {
        self.head(&Head { link: target.into(), ..Head::new(name, b'1') })
    }

    /// An extended header with these records.
    pub(in crate::rootfs) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut all = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let digits = |len: usize| len.to_string().len();
            let mut len = body + digits(body);
            len = body + digits(len);
            all.extend_from_slice(format!("{len} {key}=").as_bytes());
            all.extend_from_slice(value);
            all.push(b'\n');
        }
        self.of(Head::new("pax", b'x'), &all)
    }

    pub(in crate::rootfs) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    pub(in crate::rootfs) fn cut(self, at: usize) -> Vec<u8> {
        let mut all = self.end();
        all.truncate(at);
        all
    }
}
