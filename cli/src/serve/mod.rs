//! `orangery serve`: the daemon. Where it listens, who it is, how it ends; the rest is the daemon's own crate and the library.
//!
//! ```text
//!   make ── a spec in JSON becomes a command, by the keys of `up`      toml ── JSON as the text that those are read from
//!   told ── signals      program ── this process as another program      able ── whether that could      children ── what stays of the last one
//!   door ── another process asks to go on      predecessor ── and this one asks      handover ── what the two say
//! ```

mod able;
mod children;
mod door;
mod handover;
mod make;
mod predecessor;
mod program;
mod told;
mod toml;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orangery::runtime::durable::{Remembered, remember};
use orangery::runtime::sys::{Inherited, inherited};
use orangery::{ErrorKind, Supervisor};
use orangery_daemon::place;
use orangery_daemon::server::{self, ListenError, Listeners, Make as _, Notify, Options, Stop, Token};

use crate::args::ServeArgs;
use crate::errors::Failure;
use crate::start::{self, Leaf};
use able::Able;
use door::{Door, Successor};
use make::Made;
use predecessor::{Offered, Predecessor};
use program::Program;
use told::{Next, Told};

/// An idle stream says so often that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Who was to go on in our place and has gone has so long to be gone altogether; looked for so often.
const ITS_END: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What is being written has so long before this process becomes another program.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// The supervisor's part of the state directory.
const SUPERVISOR: &str = "supervisor";

/// Serve until a signal ends it, or makes this process another program, which goes on.
///
/// # Errors
/// What it needs cannot be had.
pub(crate) fn serve(args: &ServeArgs, json: bool) -> Result<u8, Failure> {
    told::not_yet();
    let program = Program::of_this();
    let (pidfds, given) = server::pidfds(inherited());
    let state = start::absolute(&args.state.clone().unwrap_or_else(place::default_state_dir));
    if !args.check {
        private(&state)?;
    }
    let token = args.token_file.as_deref().map(token).transpose()?;
    if args.check {
        let able = serde_json::to_string(&Able::of_this(&state)?).unwrap_or_default();
        return io::Write::write_all(&mut io::stdout(), format!("{able}\n").as_bytes())
            .map(|()| 0)
            .map_err(|error| Failure::system("cannot say what it is able to", &error));
    }
    let offered = match args.takeover && given.is_empty() {
        true => Predecessor::ask(&state, &Able::of_this(&state)?, predecessor::PATIENCE)?,
        false => None,
    };
    let (mut predecessor, given, own) = match offered {
        Some(Offered { from, sockets, own }) => (Some(from), sockets, own),
        None => (None, given, None),
    };
    let mut listeners = listeners(args, given, own.as_deref())?;
    if listeners.is_for_strangers() && token.is_none() {
        return Err(Failure::refused("--token-file", "a socket of TCP was handed to us, and there is no token"));
    }
    start::raise_descriptor_limit();
    let serving = Serving { args, json, program, state, token, notify: Arc::new(Notify::from_env()) };
    if let Some(predecessor) = &mut predecessor {
        predecessor.take()?;
    }
    told::for_who_listens();
    let mut patience = Duration::ZERO;
    let (kept, pidfds) = pidfds.into_iter().unzip();
    let mut earlier = Earlier { predecessor, kept, remembered: Some(remember(pidfds)) };
    loop {
        // What it will be asked for nobody knows yet.
        let leaf = Leaf::with_limits(true);
        listeners = match serving.round(listeners, std::mem::take(&mut earlier), patience)? {
            After::Nothing => return Ok(0),
            After::Again(kept) => {
                tracing::error!("who was to go on in our place has gone before it could: this one goes on");
                patience = ITS_END;
                kept
            }
            After::Program(kept) => {
                drop(leaf);
                let error = serving.program.become_it(&kept.lent());
                tracing::error!(%error, "the new program could not be run: this one goes on");
                kept
            }
        };
    }
}

/// What is there of whoever was there before; in the first round alone.
#[derive(Debug, Default)]
struct Earlier {
    /// It has left, and hears when we are there.
    predecessor: Option<Predecessor>,
    /// What systemd has kept.
    kept: Vec<String>,
    remembered: Option<Remembered>,
}

/// What there is to do behind a round.
enum After {
    Nothing,
    /// The next program is to be run with these; signals wait.
    Program(Listeners),
    /// The same once more: nobody has gone on.
    Again(Listeners),
}

/// What each round has in common: there is another one where nobody could go on in our place.
struct Serving<'a> {
    args: &'a ServeArgs,
    json: bool,
    program: Program,
    state: PathBuf,
    token: Option<Token>,
    notify: Arc<Notify>,
}

impl Serving<'_> {
    /// Until it ends. Whoever has the state has `patience` to let go of it.
    fn round(&self, listeners: Listeners, earlier: Earlier, patience: Duration) -> Result<After, Failure> {
        children::wait_for_all();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
        let local = tokio::task::LocalSet::new();
        let next = local.block_on(&runtime, self.serve(listeners, earlier, patience));
        drop(local);
        // A write to a disk that has begun; all else is gone.
        runtime.shutdown_timeout(LAST_WRITES);
        next
    }

    async fn serve(&self, listeners: Listeners, earlier: Earlier, patience: Duration) -> Result<After, Failure> {
        let mut told = Told::listen()?;
        let until = Instant::now() + patience;
        let supervisor = loop {
            match supervisor(self.args, &self.state) {
                Err(failure) if failure.kind() == "state" && Instant::now() < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                other => break other?,
            }
        };
        drop(earlier.remembered);
        let door = Door::open(&self.state, &listeners, self.notify.is_heard())?;
        say(&listeners, self.json);
        let options = Options {
            state_dir: self.state.clone(),
            listeners,
            token: self.token.clone(),
            heartbeat: HEARTBEAT,
            durable: true,
            notify: Arc::clone(&self.notify),
            kept: earlier.kept,
        };
        let mut next = Next::End;
        let predecessor = earlier.predecessor;
        let stop = async {
            // Everybody is answered from now on. Where we do not come that far, that one goes on.
            if let Some(predecessor) = predecessor {
                predecessor.serving();
            }
            next = told.next(&self.program, &door, &self.notify).await;
            if matches!(next, Next::End) { Stop::End } else { Stop::HandOver }
        };
        let served = server::serve(supervisor.clone(), Arc::new(Made), options, stop).await;
        // Before the lock is free: the next one's is made with it.
        drop(door);
        supervisor.leave().await;
        let served = served.map_err(|error| Failure::system("the daemon cannot go on", &error))?;
        match (served, next) {
            (Some(kept), Next::Program) => Ok(self.as_program(kept, told).await),
            (Some(kept), Next::Process(successor)) => Ok(as_process(kept, *successor, told).await),
            _ => Ok(After::Nothing),
        }
    }

    async fn as_program(&self, kept: Listeners, mut told: Told) -> After {
        told.defer();
        if told.is_over().await {
            self.notify.stopping();
            return After::Nothing;
        }
        After::Program(kept)
    }
}

async fn as_process(mut kept: Listeners, successor: Successor, mut told: Told) -> After {
    let follows = tokio::select! {
        follows = successor.follows() => follows,
        // It goes on, or another one does.
        () = told.end() => true,
    };
    if !follows {
        return After::Again(kept);
    }
    kept.own_file(false);
    After::Nothing
}

/// The document of the interface, as it is checked in: `docs/openapi.json`.
#[must_use]
pub fn document() -> serde_json::Value {
    server::document(&Made.spec_schema())
}

fn supervisor(args: &ServeArgs, state: &Path) -> Result<Supervisor, Failure> {
    let mut builder = Supervisor::builder().durable(state.join(SUPERVISOR)).subreaper(true);
    builder = builder.layering(args.layering.iter().copied());
    builder = builder.leave_descriptors(server::descriptors_of_clients());
    if let Some(parent) = &args.cgroup_parent {
        builder = builder.cgroup_parent(parent);
    }
    builder.build().map_err(|error| match (error.kind(), error.field()) {
        (ErrorKind::State, Some("durable")) => {
            Failure::from(error).with_hint("serve --takeover, which goes on in its place, or another --state")
        }
        _ => error.into(),
    })
}

/// `own`: where an earlier daemon's own socket is, if we have been given that.
fn listeners(args: &ServeArgs, given: Vec<Inherited>, own: Option<&Path>) -> Result<Listeners, Failure> {
    let refused = |option: &'static str| {
        move |error: ListenError| {
            let failure = match &error.error {
                Some(why) => Failure::system(&error.what, why).with_option(option),
                None => Failure::refused(option, error.what),
            };
            match error.hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        }
    };
    let wanted = socket(args);
    let mut given = Listeners::given(given, own.unwrap_or(&wanted)).map_err(refused("LISTEN_FDS"))?;
    // That one's, until we serve.
    given.own_file(own.is_none());
    let given = match (&args.socket, given.own()) {
        (None, _) if !given.is_empty() => given,
        (_, Some(own)) if own == wanted => given,
        (_, Some(own)) => {
            let what = format!("the running daemon is taken over with its socket, which is {}", own.display());
            return Err(Failure::refused("--socket", what).with_hint("the same without --socket"));
        }
        _ => given.unix(&wanted).map_err(refused("--socket"))?,
    };
    match args.listen.filter(|address| !given.has(*address)) {
        Some(address) => given.tcp(address).map_err(refused("--listen")),
        None => Ok(given),
    }
}

fn socket(args: &ServeArgs) -> PathBuf {
    let variable = std::env::var_os("ORANGERY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    start::absolute(&args.socket.clone().or(variable).unwrap_or_else(place::default_socket))
}

/// One line: it can be used from now on.
fn say(listeners: &Listeners, json: bool) {
    let (paths, tcp) = (listeners.paths(), listeners.addresses());
    let text = match json {
        true => serde_json::json!({ "schema": 1, "socket": paths.last(), "sockets": paths, "tcp": tcp }).to_string(),
        false => {
            let paths = paths.iter().map(|path| path.display().to_string());
            let all: Vec<_> = paths.chain(tcp.iter().map(ToString::to_string)).collect();
            format!("listening at {}", all.join(" and at "))
        }
    };
    // Nobody to tell is no failure.
    let _ = io::Write::write_all(&mut io::stdout(), format!("{text}\n").as_bytes());
}

/// The state directory: ours alone.
fn private(dir: &Path) -> Result<(), Failure> {
    let cannot = |what: &str, error: &io::Error| {
        Failure::system(format!("cannot {what} {}", dir.display()), error).with_option("--state")
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| cannot("make", &error))?;
    let there = fs::metadata(dir).map_err(|error| cannot("look at", &error))?;
    if there.uid() != rustix::process::geteuid().as_raw() || there.mode() & 0o077 != 0 {
        let what = format!("{} is not ours alone (mode {:03o})", dir.display(), there.mode() & 0o777);
        return Err(Failure::refused("--state", what).with_hint("chmod 700, or a directory that is made for it"));
    }
    Ok(())
}

/// What a file says that nobody else can read.
fn token(file: &Path) -> Result<Token, Failure> {
    let cannot = |error: &io::Error| {
        Failure::system(format!("cannot read {}", file.display()), error).with_option("--token-file")
    };
    let open = fs::File::open(file).map_err(|error| cannot(&error))?;
    let about = open.metadata().map_err(|error| cannot(&error))?;
    if about.mode() & 0o077 != 0 {
        let what = format!("{} can be read by others (mode {:03o})", file.display(), about.mode() & 0o777);
        return Err(Failure::refused("--token-file", what).with_hint(format!("chmod 600 {}", file.display())));
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(open, 4096), &mut text).map_err(|error| cannot(&error))?;
    Token::new(text.trim()).ok_or_else(|| {
        let what = format!("{} holds no token: one line of 16 visible characters or more", file.display());
        Failure::refused("--token-file", what).with_hint("openssl rand -hex 32, which makes one")
    })
}

#[cfg(test)]
mod tests {
    /// `ORANGERY_BLESS=1 cargo test -p orangery-cli --lib published` after a change.
    #[test]
    fn what_is_published_is_what_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let now = serde_json::to_string_pretty(&super::document()).unwrap() + "\n";
        if std::env::var_os("ORANGERY_BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == now, "docs/openapi.json is not what is served: see the head of this test");
    }
}
