//! How fast a pipe is emptied into a file of one directory: by a log, by bare splice(2), and by read(2) and write(2).

use std::fs::File;
use std::future::pending;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use orangery_io_stream::log::{Log, LogOptions, log_pump_pair};
use orangery_io_stream::{EndReason, PipeReader as Reader};
use rustix::pipe::{SpliceFlags, splice};

/// What a step takes: a pipe's capacity.
const STEP: usize = 64 << 10;

/// The ways, in the order of [`once`]'s figures.
pub(crate) const WAYS: [&str; 3] = ["a log", "splice", "read + write"];

/// MiB a second of each way, of `total` bytes in writes of `write`.
pub(crate) fn once(dir: &Path, write: usize, total: usize) -> anyhow::Result<[f64; 3]> {
    let place = tempfile::tempdir_in(dir)?;
    let rate = |empty: &dyn Fn(PipeReader) -> anyhow::Result<()>| {
        let (ours, theirs) = std::io::pipe()?;
        let began = Instant::now();
        let writer = std::thread::spawn(move || fill(theirs, write, total));
        empty(ours)?;
        let took = began.elapsed();
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok::<_, anyhow::Error>(total as f64 / f64::from(1 << 20) / took.as_secs_f64())
    };
    Ok([
        rate(&|pipe| into_log(pipe, &place.path().join("log")))?,
        rate(&|pipe| by_splice(pipe, &File::create(place.path().join("splice"))?))?,
        rate(&|pipe| by_copy(pipe, File::create(place.path().join("copy"))?))?,
    ])
}

fn fill(mut pipe: PipeWriter, write: usize, total: usize) -> std::io::Result<()> {
    let chunk = vec![b'x'; write];
    let mut left = total;
    while left > 0 {
        let part = chunk.get(..left.min(write)).unwrap_or_default();
        pipe.write_all(part)?;
        left -= part.len();
    }
    Ok(())
}

fn into_log(pipe: PipeReader, dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // One segment, as the other ways have one file.
    let log = Log::create(dir, LogOptions { segment_bytes: u64::MAX, ..LogOptions::default() })?;
    let end = runtime.block_on(async {
        let pipe = Reader::from_fd(pipe.into())?;
        anyhow::Ok(log_pump_pair(Some(pipe), None, log, pending(), None).await)
    })?;
    anyhow::ensure!(end == EndReason::Eof, "the log ended with {end:?}");
    Ok(())
}

fn by_splice(pipe: PipeReader, file: &File) -> anyhow::Result<()> {
    while splice(&pipe, None, file, None, STEP, SpliceFlags::empty())? > 0 {}
    Ok(())
}

fn by_copy(mut pipe: PipeReader, mut file: File) -> anyhow::Result<()> {
    let mut buffer = vec![0; STEP];
    loop {
        match pipe.read(&mut buffer)? {
            0 => return Ok(()),
            len => file.write_all(buffer.get(..len).unwrap_or_default())?,
        }
    }
}
