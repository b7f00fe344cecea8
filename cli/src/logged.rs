//! `run --log`: the command's output goes into a durable log, and to us from there: neither what is in the log nor the
//! command's pace depends on whoever reads us.

use orangery::stream::EndReason;
use orangery::stream::log::{LogOptions, SyncPolicy};
use orangery::{Command, Event, Subscriber};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use crate::args::LogArgs;
use crate::copy::{Trouble, write_all};
use crate::start::absolute;

/// The command with the log of `--log`: a new one, or the one that is there.
pub(crate) fn into_log(command: Command, args: &LogArgs) -> Command {
    let Some(dir) = &args.log else { return command };
    let options = LogOptions {
        segment_bytes: args.log_max_size,
        keep_segments: args.log_max_files,
        sync: SyncPolicy::OnClose,
        ..LogOptions::default()
    };
    command.log(absolute(dir), options)
}

/// Shows what comes into the log, until its end; on a thread of its own, because our own ends may block.
pub(crate) fn show(runtime: &Handle, mut output: Subscriber, trouble: &UnboundedSender<Trouble>) {
    while let Some(event) = runtime.block_on(output.recv()) {
        match event {
            Event::Chunk(chunk) => {
                if let Err(error) = write_all(chunk.source, &chunk.data) {
                    // The log goes on without us.
                    let _ = trouble.send(Trouble::Unwritable(chunk.source, error));
                    return;
                }
            }
            Event::Gap(gap) => {
                tracing::warn!(source = %gap.source, bytes = gap.bytes(), cause = %gap.cause, "missing in the log");
            }
            Event::End(end) if matches!(end.reason, EndReason::Error(_) | EndReason::Abandoned) => {
                tracing::error!(reason = ?end.reason, "the log cannot be shown any more");
            }
            _ => {}
        }
    }
}
