//! Archives that are compressed, known by their first bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// What compressed files begin with.
const MAGICS: [(&[u8], &str); 4] =
    [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];

/// An archive on the disk.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read + Send>, Error> {
    let failed = |error| Error::system(format!("cannot open {}", path.display()), error).with_field("archive");
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Error::invalid("archive", format!("{} is a directory", path.display())));
    }
    decoded(Box::new(file))
}

/// What comes out of it.
pub(super) fn decoded(mut input: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>, Error> {
    let mut first = Vec::new();
    let read = input.by_ref().take(6).read_to_end(&mut first);
    read.map_err(|error| Error::system("cannot read the archive", error).with_field("archive"))?;
    let kind = MAGICS.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, name)| *name);
    let input = BufReader::with_capacity(128 << 10, io::Cursor::new(first).chain(input));
    match kind {
        None => Ok(Box::new(input)),
        #[cfg(feature = "gzip")]
        Some("gzip") => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        #[cfg(feature = "zstd")]
        Some("zstd") => {
            let decoder = zstd::stream::read::Decoder::with_buffer(input);
            let decoder = decoder.map_err(|error| Error::system("cannot decompress", error).with_field("archive"))?;
            Ok(Box::new(decoder))
        }
        Some(kind) => Err(Error::new(ErrorKind::Unsupported, format!("the archive is compressed by {kind}"))
            .with_field("archive")
            .with_hint(format!("decompress it first, for instance: {kind} -dc FILE"))),
    }
}
