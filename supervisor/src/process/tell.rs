//! What happens to a process, told to the feed: each step of its life is written into its slot here and nowhere else.

use std::sync::{Arc, PoisonError};

use orangery_runtime::Exit;

use super::slot::{Born, Slot};
use crate::error::Error;
use crate::events::{Failure, Kind};
use crate::guard::Part;
use crate::report::{Cause, LimitKind, OomVerdict, Report};

impl Slot {
    /// Something about it that it has not done.
    pub(crate) fn tell_of_itself(&self, kind: Kind) {
        self.tell(kind, None);
    }

    fn tell(&self, kind: Kind, cause: Option<Cause>) {
        self.voice.tell(Some(self.number), kind, cause);
    }

    /// It was exec'd, and nothing of its output was read yet. `unfollowed`: those who follow it now do not get that.
    pub(crate) fn bear(&self, born: Born, unfollowed: bool) {
        let (pid, start_us) = (born.pid, born.start_us);
        if self.born.set(born).is_ok() {
            let kind = Kind::ProcessStarted { pid, start_us };
            let _ = self.listed.set(self.voice.tell_start(self.number, kind, &self.output, unfollowed));
        }
    }

    /// Said of its actor.
    pub(crate) fn part(&self) -> Part {
        Part { actor: "process", process: Some(self.number), voice: self.voice.clone(), span: self.span.clone() }
    }

    /// It could not be started. Of a main process the container tells it.
    pub(crate) fn stillborn(&self, error: &Error) {
        self.tell(Kind::ProcessFailed(Failure::from(error)), None);
    }

    /// We set out to end it for this reason. Called under the lock of the intent.
    pub(super) fn tell_stopping(&self, cause: &Cause) {
        if let Cause::Limit(limit) = cause {
            self.tell(Kind::LimitHit { limit: *limit }, Some(cause.clone()));
        }
        let kind = if self.main { Kind::ContainerStopping } else { Kind::ProcessStopping };
        self.tell(kind, Some(cause.clone()));
    }

    /// It has ended.
    pub(crate) fn exited(&self, exit: Exit) {
        // So that nobody sets out to end it between the two.
        let _intent = self.intent.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.ended() {
            self.tell(Kind::ProcessExited { exit: exit.status.into() }, None);
        }
        self.exit.send_replace(Some(exit));
    }

    /// Its report is made, once: what comes back is the one that stands.
    pub(crate) fn conclude(&self, report: Report) -> Arc<Report> {
        let mut first = false;
        let report = self.concluded.get_or_init(|| {
            first = true;
            Arc::new(report)
        });
        if first {
            self.tell_end(report);
        }
        Arc::clone(report)
    }

    fn tell_end(&self, report: &Arc<Report>) {
        // What was not told when it happened.
        if let OomVerdict::Own { kills } | OomVerdict::Ancestor { kills, .. } | OomVerdict::Killed { kills } =
            report.oom
        {
            self.tell_oom(kills, report.oom.clone());
        }
        let told = self.intent().map(|intent| intent.cause);
        match report.cause {
            // Of the kernel's: what we carry out ourselves was told when we did.
            Cause::Limit(limit) if told.as_ref() != Some(&report.cause) => {
                self.tell(Kind::LimitHit { limit }, Some(report.cause.clone()));
            }
            _ => {}
        }
        if report.cgroup.pids_refused.known().is_some_and(|refused| *refused > 0) {
            self.tell(Kind::LimitHit { limit: LimitKind::Pids }, None);
        }
        if report.leaked_writers {
            self.tell(Kind::LeakedWriters, None);
        }
        self.tell(Kind::ProcessEnded { report: Arc::clone(report) }, Some(report.cause.clone()));
    }
}
