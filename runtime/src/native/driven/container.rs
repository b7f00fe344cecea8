//! What is different about a container that another program has made: how processes are started in it, and how it goes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{RwLock, oneshot};
use tracing::Instrument as _;

use super::Known;
use super::call::{self, Call, Ready};
use super::terminal::Terminal;
use crate::Exit;
use crate::cgroup::Group;
use crate::drivers::{self, UMASK, refused};
use crate::error::{Error, ErrorKind, Errors};
use crate::keeper::Spawned;
use crate::native::Inner;
use crate::native::off_thread::off_thread;
use crate::native::stdio::Ends;
use crate::seccomp::Filter;
use crate::spec::check::{CheckedProcess, CheckedSpec};
use crate::spec::{Seccomp, WindowSize};

/// How far it has come.
#[derive(Debug, Default)]
struct Removal {
    was_held_up: bool,
    done: bool,
}

/// So often an `exec` is tried again that has not come to its process.
const AGAIN: u32 = 4;
/// A number is shorter.
const NUMBER: u64 = 32;

/// Whom a call has left behind.
pub(in crate::native) struct Brought {
    /// Claimed; it is killed when nobody takes it.
    pub(in crate::native) process: Spawned,
    /// The master of its terminal, where it has one.
    pub(in crate::native) terminal: Option<OwnedFd>,
}

/// The program's side of one container.
#[derive(Debug)]
pub(in crate::native) struct Driven {
    pub(super) inner: Arc<Inner>,
    pub(super) known: Arc<Known>,
    id: String,
    /// Its bundle, and the files that go to and fro.
    pub(super) dir: PathBuf,
    /// Held to read by each call under way, which goes on when nobody waits for it any more.
    calls: Arc<RwLock<()>>,
    /// The program has been asked to make it.
    made: AtomicBool,
    removal: tokio::sync::Mutex<Removal>,
    /// Its command's streams and end, where that is pid 1 and waits to be started.
    pub(super) main: Mutex<Option<(Ends, oneshot::Receiver<Exit>)>>,
    /// What is executed then.
    command: Option<String>,
    execs: AtomicU64,
    ttys: AtomicU64,
    /// Its filter is that of all its processes.
    filter: (Seccomp, Vec<Filter>, u64),
    /// That of its command.
    umask: u32,
}

impl Driven {
    pub(super) fn new(inner: &Arc<Inner>, known: &Arc<Known>, spec: &CheckedSpec) -> Arc<Self> {
        let id = spec.container().id.clone();
        Arc::new(Self {
            inner: Arc::clone(inner),
            known: Arc::clone(known),
            dir: known.dir.join("bundles").join(&id),
            id,
            calls: Arc::default(),
            made: AtomicBool::new(false),
            removal: tokio::sync::Mutex::default(),
            main: Mutex::default(),
            command: spec.main().spec().argv.first().map(|word| word.to_string_lossy().into_owned()),
            execs: AtomicU64::new(1),
            ttys: AtomicU64::new(1),
            filter: filter(spec.main()),
            umask: spec.main().spec().umask.unwrap_or(UMASK),
        })
    }

    /// What a call is given, but for the command.
    pub(super) fn log(&self, of: &str) -> Option<PathBuf> {
        Some(self.dir.join(format!("{of}.log")))
    }

    /// The group that a process has to be born in to be in all of its container's.
    fn birthplace(&self, group: Option<&Arc<Group>>) -> Option<Arc<Group>> {
        group.filter(|group| self.known.hierarchies.are_born_in(group)).cloned()
    }

    /// A terminal that is asked for, and what is said of it to the call.
    fn terminal(&self, size: Option<WindowSize>, args: &mut Vec<String>) -> Result<Option<Terminal>, Error> {
        let Some(size) = size else { return Ok(None) };
        let terminal = Terminal::listen(&self.dir, self.ttys.fetch_add(1, Ordering::Relaxed), size)?;
        args.extend(["--console-socket".into(), terminal.inside(self.known.place)]);
        Ok(Some(terminal))
    }

    /// Have the program make the container; its first process, and the master of its terminal.
    pub(super) async fn create(
        self: &Arc<Self>,
        call: Call<'_>,
        tty: Option<WindowSize>,
        group: Option<&Arc<Group>>,
    ) -> Result<Brought, Error> {
        let preserved = call.stdio.len().saturating_sub(3);
        let pid = self.dir.join("pid");
        let mut args = vec!["create".to_owned(), "--bundle".into(), show(&self.dir), "--pid-file".into(), show(&pid)];
        args.extend(call.args);
        if preserved > 0 {
            args.extend(["--preserve-fds".into(), preserved.to_string()]);
        }
        let terminal = self.terminal(tty, &mut args)?;
        args.push(self.id.clone());
        let console = terminal.is_some().then(|| self.dir.clone());
        let call = Call { args, log: self.log("create"), group: self.birthplace(group), console, ..call };
        let ready = call::prepare(&self.inner, &self.known, call)?;
        self.made.store(true, Ordering::Release);
        self.bring(ready, pid, terminal).await
    }

    /// `start`: what waits in it runs.
    pub(super) async fn start(self: &Arc<Self>, runs: Option<String>) -> Result<(), Error> {
        let args = vec!["start".to_owned(), self.id.clone()];
        let call = Call { args, log: self.log("start"), runs, ..Call::default() };
        let ready = call::prepare(&self.inner, &self.known, call)?;
        self.apart(async move |driven| call::run(&driven.inner, &driven.known, ready).await.map(drop)).await
    }

    /// The command that is pid 1, once.
    pub(in crate::native) async fn start_main(
        self: &Arc<Self>,
    ) -> Result<Option<(Ends, oneshot::Receiver<Exit>)>, Error> {
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).take();
        if main.is_some() {
            self.start(self.command.clone()).await?;
        }
        Ok(main)
    }

    /// A process in it; it runs.
    pub(in crate::native) async fn exec(
        self: &Arc<Self>,
        process: &CheckedProcess,
        stdio: Vec<Option<OwnedFd>>,
        group: Option<&Arc<Group>>,
    ) -> Result<Brought, Error> {
        let mut no = refused::process(process.spec());
        if self.umask != process.spec().umask.unwrap_or(UMASK) {
            let flavour = self.known.flavour.get();
            no.extend(flavour.and_then(refused::umask));
        }
        if filter(process) != self.filter {
            let why = "a process that a driver starts has the filter of its container";
            no.push(Error::new(ErrorKind::Unsupported, why).with_field("seccomp"));
        }
        if process.spec().shares_keyring {
            let why = "a driver can say that of a command that is pid 1 alone";
            no.push(Error::new(ErrorKind::Unsupported, why).with_field("shares_keyring"));
        }
        if !no.is_empty() {
            return Err(Errors(no).into_one());
        }
        let failed = |error| Error::system("cannot duplicate a descriptor", error);
        let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose().map_err(failed);
        for _ in 0..AGAIN {
            let copies = stdio.iter().map(copy).collect::<Result<_, _>>()?;
            match self.exec_once(process, copies, group).await {
                // Seen of crun 1.8 beside much load, right after its `start`.
                Err(error) if drivers::words::has_not_begun(&error) => {
                    tracing::debug!(%error, "the runtime is asked again")
                }
                done => return done,
            }
        }
        self.exec_once(process, stdio, group).await
    }

    async fn exec_once(
        self: &Arc<Self>,
        process: &CheckedProcess,
        stdio: Vec<Option<OwnedFd>>,
        group: Option<&Arc<Group>>,
    ) -> Result<Brought, Error> {
        let number = self.execs.fetch_add(1, Ordering::Relaxed);
        let (file, pid) = (self.dir.join(format!("process-{number}.json")), self.dir.join(format!("pid-{number}")));
        write(file.clone(), drivers::written(process).to_string()).await?;
        let mut args = vec!["exec".to_owned(), "--detach".into(), "--process".into(), show(&file)];
        args.extend(["--pid-file".into(), show(&pid)]);
        let preserved = stdio.len().saturating_sub(3);
        if preserved > 0 {
            args.extend(["--preserve-fds".into(), preserved.to_string()]);
        }
        let terminal = self.terminal(process.spec().tty, &mut args)?;
        args.push(self.id.clone());
        let runs = process.spec().argv.first().map(|word| word.to_string_lossy().into_owned());
        let log = self.log(&format!("exec-{number}"));
        let oom_score_adj = process.spec().oom_score_adj;
        let call = Call {
            args,
            stdio,
            log: log.clone(),
            group: self.birthplace(group),
            runs,
            oom_score_adj,
            console: terminal.is_some().then(|| self.dir.clone()),
            ..Call::default()
        };
        let ready = call::prepare(&self.inner, &self.known, call)?;
        let brought = self.bring(ready, pid.clone(), terminal).await;
        for file in [Some(file), Some(pid), log].into_iter().flatten() {
            let _ = std::fs::remove_file(file);
        }
        brought
    }

    /// A call, and whom it leaves behind, who is killed where nobody waits for it any more.
    async fn bring(self: &Arc<Self>, ready: Ready, pid: PathBuf, terminal: Option<Terminal>) -> Result<Brought, Error> {
        self.apart(async move |driven| {
            let request = ready.request;
            let number = || {
                let text = call::end_of(&pid, NUMBER).ok().and_then(|text| String::from_utf8(text).ok());
                text.and_then(|text| text.trim().parse().ok()).filter(|pid: &i32| *pid > 0)
            };
            let done = match call::bring(&driven.inner, &driven.known, ready).await {
                Ok(done) => done,
                Err(error) => {
                    // It may have failed, or been killed, behind the birth: whom nobody claims further is killed.
                    if let Some(number) = number() {
                        drop(driven.inner.keeper.claim(request, number).await);
                    }
                    return Err(error);
                }
            };
            let none =
                || Error::new(ErrorKind::Creation, "the runtime has left no number of the process that it has made");
            let number = number().ok_or_else(none)?;
            done.end_others(number).await;
            let claimed = driven.inner.keeper.claim(request, number).await;
            drop(done);
            let process = claimed.map_err(|error| {
                let what = "the process that the runtime has made is none that has fallen to us";
                Error::new(ErrorKind::Creation, what).with_errno(error.errno()).with_field("runtime")
            })?;
            let terminal = terminal.map(|terminal| terminal.take()).transpose()?;
            Ok(Brought { process, terminal })
        })
        .await
    }

    /// On its own: it goes on when this future is dropped.
    async fn apart<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, Error> {
        let under_way = Arc::clone(&self.calls).read_owned().await;
        let driven = Arc::clone(self);
        let task = async move {
            let done = act(driven).await;
            drop(under_way);
            done
        };
        let task = tokio::spawn(task.in_current_span());
        task.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::System, "a call of the runtime panicked")))
    }

    /// The program forgets it, and so do we. Idempotent. What is under way ends first, which takes no longer than the patience with a call.
    ///
    /// # Errors
    /// The program can neither do it nor be ended, for the first time: nothing is removed yet. After the second try everything is that it
    /// has written down.
    pub(in crate::native) async fn remove(&self) -> Result<(), Error> {
        let mut removal = self.removal.lock().await;
        if removal.done {
            return Ok(());
        }
        let _none = self.calls.write().await;
        if self.made.load(Ordering::Acquire) {
            let args = vec!["delete".to_owned(), "--force".into(), self.id.clone()];
            let call = Call { args, log: self.log("delete"), ..Call::default() };
            let asked = match call::prepare(&self.inner, &self.known, call) {
                Ok(ready) => call::run_on(&self.inner, &self.known, ready).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                if call::is_held_up(&error) && !std::mem::replace(&mut removal.was_held_up, true) {
                    return Err(error);
                }
                tracing::warn!(%error, "the runtime did not delete a container; what it wrote down is removed");
            }
        }
        let (known, id, dir) = (Arc::clone(&self.known), self.id.clone(), self.dir.clone());
        let forget = move || {
            known.hierarchies.forget(&id);
            let _ = std::fs::remove_dir_all(known.dir.join("root").join(&id));
            let _ = std::fs::remove_dir_all(dir);
        };
        let _ = off_thread(forget).await;
        removal.done = true;
        Ok(())
    }
}

fn filter(process: &CheckedProcess) -> (Seccomp, Vec<Filter>, u64) {
    let spec = process.spec();
    (spec.seccomp, spec.filters.clone(), spec.filter_flags)
}

/// A file of a bundle.
pub(super) async fn write(path: PathBuf, text: String) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::system("cannot write for the runtime", error);
    let written = off_thread(move || std::fs::write(path, text)).await;
    written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(failed)
}

/// Ours: names and numbers below a directory that was given as a path.
fn show(path: &Path) -> String {
    path.display().to_string()
}
