//! A log that somebody else holds too: whenever its writer is gone, what he empties into the file that he knows, and what
//! is in the log, are together everything, once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_io_stream::log::{
    Holder, Log, LogEvent, LogOptions, LogReader, Meanwhile, ReadOptions, Recording, log_pump_pair,
};
use orangery_io_stream::{Fate, From, PipeReader, Source, SubscribeOptions};
use tokio::sync::Notify;

/// What he knows, and at which word he stops listening.
#[derive(Debug)]
struct Keeper {
    file: Mutex<File>,
    heard: Mutex<Vec<(u64, bool)>>,
    /// The nth word is the last: it is heard (`true`) or not, and never answered.
    last: Option<(usize, bool)>,
    /// The nth word is one too many for him: he knows what he knew. 0: each.
    refuses: Option<usize>,
    reached: Notify,
}

impl Keeper {
    fn new(file: OwnedFd, last: Option<(usize, bool)>) -> Arc<Self> {
        Arc::new(Self::of(file, last, None))
    }

    fn of(file: OwnedFd, last: Option<(usize, bool)>, refuses: Option<usize>) -> Self {
        Self { file: Mutex::new(file.into()), heard: Mutex::default(), last, refuses, reached: Notify::new() }
    }

    /// As the keeper does without a supervisor: everything that is left, behind the end of the file that he knows.
    fn take_the_rest(&self, pipe: &mut std::io::PipeReader) -> Meanwhile {
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).unwrap();
        let mut file = self.file.lock().unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&rest).unwrap();
        Meanwhile { logged: rest.len() as u64, lost: 0, since: Duration::from_secs(1) }
    }
}

impl Holder for Keeper {
    fn hold<'a>(
        &'a self,
        source: Source,
        _: BorrowedFd<'a>,
        file: OwnedFd,
        takes: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        assert_eq!(source, Source::Stdout);
        Box::pin(async move {
            let file = File::from(file);
            let len = file.metadata().unwrap().len();
            let count = {
                let mut heard = self.heard.lock().unwrap();
                heard.push((len, takes));
                heard.len()
            };
            if self.refuses.is_some_and(|nth| nth == count || nth == 0) {
                return false;
            }
            let last = self.last.is_some_and(|(last, _)| last == count);
            if !last || self.last.is_some_and(|(_, heard)| heard) {
                *self.file.lock().unwrap() = file;
            }
            if last {
                self.reached.notify_one();
                pending::<()>().await;
            }
            true
        })
    }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 100, keep_segments: 1000, ..LogOptions::default() }
}

fn stdout(dir: &Path) -> Vec<u8> {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let mut bytes = Vec::new();
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => {
                assert_eq!(chunk.offset, bytes.len() as u64);
                assert!(chunk.seq.is_some() && chunk.wall.is_some(), "a byte without a time");
                bytes.extend_from_slice(&chunk.data);
            }
            LogEvent::End(_) => {}
            other => panic!("{other:?}"),
        }
    }
    bytes
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect()
}

#[tokio::test]
async fn its_holder_knows_each_file_before_a_byte_goes_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path().join("log"), options()).unwrap();
    let keeper = Keeper::new(log.share(Source::Stdout).unwrap(), None);
    log.held_by(keeper.clone());
    let (ours, mut theirs) = std::io::pipe().unwrap();
    theirs.write_all(&text(450)).unwrap();
    drop(theirs);
    let reader = PipeReader::from_fd(ours.into()).unwrap();
    log_pump_pair(Some(reader), None, log.clone(), pending(), None).await;
    assert_eq!(*keeper.heard.lock().unwrap(), [(0, true); 4], "four more files, each empty when he was told");
    assert_eq!(stdout(log.dir()), text(450));
    assert!(
        std::fs::read_dir(log.dir()).unwrap().all(|entry| entry.unwrap().path().extension() != Some("held".as_ref()))
    );
}

/// Wherever its writer is gone between a file and the word of it, and however that word was taken.
#[tokio::test]
async fn nothing_is_lost_wherever_its_writer_is_gone() {
    for last in [None, Some((1, false)), Some((1, true)), Some((2, false)), Some((3, true))] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(dir.path().join("log"), options()).unwrap();
        let keeper = Keeper::new(log.share(Source::Stdout).unwrap(), last);
        log.held_by(keeper.clone());
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let mut pipe = ours.try_clone().unwrap();
        theirs.write_all(&text(450)).unwrap();
        let reader = PipeReader::from_fd(ours.into()).unwrap();
        let pumped = log_pump_pair(Some(reader), None, log.clone(), pending(), None);
        let drained = async {
            let mut reader = log.reader(From::Start, ReadOptions { follow: true, ..ReadOptions::default() }).unwrap();
            let mut seen = 0;
            while seen < 450 {
                let Some(LogEvent::Chunk(chunk)) = reader.next().await.unwrap() else { panic!("no chunk") };
                seen += chunk.data.len();
            }
        };
        tokio::select! {
            _ = pumped => panic!("ended"),
            () = keeper.reached.notified() => {}
            () = drained => {}
        }
        let dir = log.dir().to_owned();
        drop(log);
        // The writer is gone; who writes to it is not.
        theirs.write_all(b"and more").unwrap();
        drop(theirs);
        rustix_blocking(&pipe);
        let done = keeper.take_the_rest(&mut pipe);
        let log = Log::open(&dir, options()).unwrap();
        log.meanwhile(Source::Stdout, &done);
        let all = [text(450), b"and more".to_vec()].concat();
        assert_eq!(log.cursor().offset(Source::Stdout), all.len() as u64, "{last:?}");
        assert_eq!(stdout(&dir), all, "{last:?}");
        // And it goes on.
        log.held_again(keeper.clone(), &[Source::Stdout]);
        let (ours, mut theirs) = std::io::pipe().unwrap();
        theirs.write_all(b", and on").unwrap();
        drop(theirs);
        let reader = PipeReader::from_fd(ours.into()).unwrap();
        log_pump_pair(Some(reader), None, log, pending(), None).await;
        assert_eq!(stdout(&dir), [all, b", and on".to_vec()].concat(), "{last:?}");
    }
}

/// He does not take a word: the log goes on, and tells him again. A writer that is gone before that has left him with an older
/// file, behind which his bytes do not belong.
#[tokio::test]
async fn a_word_that_is_refused_is_told_again_and_loses_nothing() {
    for retry in [Duration::ZERO, Duration::from_secs(3600)] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { retry, ..options() };
        let log = Log::create(dir.path().join("log"), options).unwrap();
        let keeper = Arc::new(Keeper::of(log.share(Source::Stdout).unwrap(), None, Some(2)));
        log.held_by(keeper.clone());
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let mut pipe = ours.try_clone().unwrap();
        theirs.write_all(&text(350)).unwrap();
        let reader = PipeReader::from_fd(ours.into()).unwrap();
        let mut seen = log.reader(From::Start, ReadOptions { follow: true, ..ReadOptions::default() }).unwrap();
        let mut got = 0;
        let drained = async {
            while got < 350 {
                let Some(LogEvent::Chunk(chunk)) = seen.next().await.unwrap() else { panic!("no chunk") };
                got += chunk.data.len();
            }
        };
        tokio::select! {
            _ = log_pump_pair(Some(reader), None, log.clone(), pending(), None) => panic!("ended"),
            () = drained => {}
        }
        let words = keeper.heard.lock().unwrap().len();
        assert_eq!(words, if retry.is_zero() { 4 } else { 2 }, "{retry:?}: three files more, one of them told twice");
        let dir = log.dir().to_owned();
        drop((log, seen));
        theirs.write_all(b"and more").unwrap();
        drop(theirs);
        rustix_blocking(&pipe);
        let done = keeper.take_the_rest(&mut pipe);
        for _ in 0..2 {
            let log = Log::open(&dir, options).unwrap();
            assert_eq!(log.cursor().offset(Source::Stdout), 358, "{retry:?}");
            log.meanwhile(Source::Stdout, &done);
            assert_eq!(stdout(&dir), [text(350), b"and more".to_vec()].concat(), "{retry:?}");
        }
    }
}

/// Asked again at once, for ever: between two refusals something moves.
#[tokio::test]
async fn a_holder_that_takes_no_word_at_all_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path().join("log"), LogOptions { retry: Duration::ZERO, ..options() }).unwrap();
    let keeper = Arc::new(Keeper::of(log.share(Source::Stdout).unwrap(), None, Some(0)));
    log.held_by(keeper.clone());
    let (ours, mut theirs) = std::io::pipe().unwrap();
    theirs.write_all(&text(450)).unwrap();
    drop(theirs);
    let reader = PipeReader::from_fd(ours.into()).unwrap();
    log_pump_pair(Some(reader), None, log.clone(), pending(), None).await;
    assert_eq!(stdout(log.dir()), text(450));
    assert!(keeper.heard.lock().unwrap().len() >= 4, "told of each file");
}

/// The same of what is copied, as it is no pipe.
#[tokio::test]
async fn what_is_copied_goes_on_when_a_word_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { retry: Duration::from_secs(3600), ..options() };
    let log = Log::create(dir.path().join("log"), options).unwrap();
    let keeper = Arc::new(Keeper::of(log.share(Source::Stdout).unwrap(), None, Some(1)));
    log.held_by(keeper.clone());
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let reader = PipeReader::from_fd(ours.into()).unwrap();
    let mut seen = log.reader(From::Start, ReadOptions { follow: true, ..ReadOptions::default() }).unwrap();
    let mut got = 0;
    let written = async {
        for n in 1..=3 {
            theirs.write_all(&text(150)).unwrap();
            while got < n * 150 {
                let Some(LogEvent::Chunk(chunk)) = seen.next().await.unwrap() else { panic!("no chunk") };
                got += chunk.data.len();
            }
        }
    };
    tokio::select! {
        _ = log_pump_pair(Some(reader), None, log.clone(), pending(), None) => panic!("ended"),
        () = written => {}
    }
    assert_eq!(keeper.heard.lock().unwrap().len(), 1, "not asked again before its time");
    assert_eq!(stdout(log.dir()), [text(150), text(150), text(150)].concat());
}

/// What the pump has made non-blocking is one description with ours.
fn rustix_blocking(pipe: &std::io::PipeReader) {
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
}

#[tokio::test]
async fn what_was_lost_meanwhile_is_a_gap_of_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path().join("log"), options()).unwrap();
    let mut file = File::from(log.share(Source::Stdout).unwrap());
    drop(log);
    file.write_all(b"kept").unwrap();
    let log = Log::open(dir.path().join("log"), options()).unwrap();
    log.meanwhile(Source::Stdout, &Meanwhile { logged: 4, lost: 10, since: Duration::from_secs(1) });
    // What comes after the gap goes into a file that its holder has to be told of.
    let keeper = Keeper::new(file.into(), None);
    log.held_again(keeper.clone(), &[Source::Stdout]);
    let (ours, mut theirs) = std::io::pipe().unwrap();
    theirs.write_all(b"after").unwrap();
    drop(theirs);
    log_pump_pair(Some(PipeReader::from_fd(ours.into()).unwrap()), None, log.clone(), pending(), None).await;
    let mut reader = log.reader(From::Start, ReadOptions::default()).unwrap();
    let mut told = Vec::new();
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => told.push((chunk.offset, chunk.data.len() as u64)),
            LogEvent::Gap(gap) => told.push((gap.from, gap.bytes())),
            _ => {}
        }
    }
    assert_eq!(told, [(0, 4), (4, 10), (14, 5)]);
    assert_eq!(
        *keeper.heard.lock().unwrap(),
        [(4, false), (0, true)],
        "the old one is over, and one more, empty when he was told"
    );
}

#[tokio::test]
async fn a_recording_goes_on_in_another_process_and_is_read_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let first = Recording::new(Log::create(&dir, options()).unwrap());
    let began = first.began();
    let (ours, mut theirs) = std::io::pipe().unwrap();
    theirs.write_all(b"one ").unwrap();
    let log = first.log().unwrap();
    let mut reader = log.reader(From::Start, ReadOptions { follow: true, ..ReadOptions::default() }).unwrap();
    let pipe = ours.try_clone().unwrap();
    tokio::select! {
        _ = first.pump(Some(PipeReader::from_fd(ours.into()).unwrap()), None, pending(), None) => panic!("ended"),
        chunk = reader.next() => drop(chunk.unwrap()),
    }
    drop((first, log));
    theirs.write_all(b"two").unwrap();
    drop(theirs);
    let again = Recording::again(Log::open(&dir, options()).unwrap(), began);
    let live = again.subscribe(SubscribeOptions::default());
    let exit = async { Fate::Code(3) };
    again.pump(Some(PipeReader::from_fd(pipe.into()).unwrap()), None, exit, None).await;
    assert_eq!((live.collect(100).await.to_vec(), again.totals(Source::Stdout).bytes), (b"one two".to_vec(), 7));
    let mut whole = again.subscribe(SubscribeOptions::default());
    let end = loop {
        match whole.recv().await {
            Some(orangery_io_stream::Event::End(end)) => break end,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    let over = Recording::ended(&dir, began, again.cursor(), end);
    assert!(over.is_closed());
    assert_eq!(over.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"one two");
    assert_eq!(over.totals(Source::Stdout).bytes, 7);
}
