//! A log that is fed by hand over two real pipes, step by step.

use std::fs::File;
use std::future::pending;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use futures_util::FutureExt;
use orangery_io_stream::log::{Log, LogOptions, log_pump_pair};
use orangery_io_stream::{EndReason, PipeReader, Source};
use rustix::pipe::{PipeFlags, pipe_with};

/// What is written is in the log when the call returns.
pub(crate) struct Fed {
    pub(crate) log: Log,
    /// The workload's ends.
    ends: [Option<File>; 2],
    #[allow(dead_code, reason = "not every test crashes")]
    /// Our ends once more, as somebody holds them who survives the writer.
    ours: [OwnedFd; 2],
    pump: std::pin::Pin<Box<dyn Future<Output = EndReason> + Send>>,
}

fn pump(log: &Log, ours: &[OwnedFd; 2]) -> std::pin::Pin<Box<dyn Future<Output = EndReason> + Send>> {
    let [out, err] = [0, 1].map(|at: usize| Some(PipeReader::from_fd(ours[at].try_clone().unwrap()).unwrap()));
    Box::pin(log_pump_pair(out, err, log.clone(), pending(), None))
}

impl Fed {
    pub(crate) fn new(dir: &Path, options: LogOptions) -> Self {
        Self::on(Log::create(dir, options).unwrap())
    }

    pub(crate) fn on(log: Log) -> Self {
        let [(out, out_end), (err, err_end)] = [(); 2].map(|()| pipe_with(PipeFlags::CLOEXEC).unwrap());
        let ours = [out, err];
        Self { pump: pump(&log, &ours), log, ends: [Some(out_end.into()), Some(err_end.into())], ours }
    }

    /// Writes into the pipe alone.
    pub(crate) fn write_pipe(&mut self, source: Source, bytes: &[u8]) {
        self.ends[source as usize].as_ref().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) async fn write(&mut self, source: Source, bytes: &[u8]) {
        self.write_pipe(source, bytes);
        self.settle(bytes.len() as u64).await;
    }

    /// Runs the pump until it has taken so many bytes more.
    pub(crate) async fn settle(&mut self, bytes: u64) {
        let target = self.log.metrics().taken + bytes;
        while self.log.metrics().taken < target {
            assert!((&mut self.pump).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }

    #[allow(dead_code, reason = "not every test crashes")]
    /// The writer dies as it is; another one goes on with the same pipes.
    pub(crate) fn crash(self, options: LogOptions) -> Self {
        let Self { log, ends, ours, pump: old } = self;
        let dir = log.dir().to_owned();
        drop((log, old));
        let log = Log::open(dir, options).unwrap();
        Self { pump: pump(&log, &ours), log, ends, ours }
    }

    pub(crate) async fn end(mut self) -> (Log, EndReason) {
        self.ends = [None, None];
        let reason = self.pump.await;
        (self.log, reason)
    }
}
