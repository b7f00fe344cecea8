//! When a service is ready, and how it is seen that it stays healthy.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Args, ValueEnum};
use orangery::runtime::spec::size::parse_duration;
use orangery::{Command, Health, Http, Probe, Readiness};

/// The library's own.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What shows that it is ready: one of these.
#[derive(Debug, Args)]
#[group(id = "ready", multiple = false)]
pub(crate) struct ReadyArgs {
    /// It is ready, and what comes after it starts, when this command returns 0 in it
    #[arg(long, value_name = "WORD", value_parser = word)]
    ready_exec: Vec<String>,
    /// It is ready when somebody accepts a connection on this port, as seen from its network
    #[arg(long, value_name = "PORT|ADDRESS:PORT", value_parser = address)]
    ready_tcp: Option<SocketAddr>,
    /// It is ready when the server there answers a GET of this path with a status from 200 to 399, as seen from its network
    #[arg(long, value_name = "[ADDRESS:]PORT/PATH", value_parser = http)]
    ready_http: Option<Http>,
    /// It is ready when it says READY=1 by the protocol of sd_notify(3)
    #[arg(long)]
    ready_notify: bool,
    /// It is ready when it has written a line to the descriptor whose number is in $NOTIFY_FD, as s6 has it
    #[arg(long)]
    ready_fd: bool,
    /// It is ready when it has written a line with this text
    #[arg(long, value_name = "TEXT", value_parser = line)]
    ready_line: Option<String>,
    /// It is ready when it has run for this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ready_after: Option<Duration>,
}

/// What shows that it is healthy: one of these.
#[derive(Debug, Args)]
#[group(id = "health", multiple = false)]
pub(crate) struct HealthArgs {
    /// It is healthy, once it is ready, while this command returns 0 in it
    #[arg(long, value_name = "WORD", value_parser = word)]
    health_exec: Vec<String>,
    /// It is healthy while somebody accepts connections on this port, as seen from its network
    #[arg(long, value_name = "PORT|ADDRESS:PORT", value_parser = address)]
    health_tcp: Option<SocketAddr>,
    /// It is healthy while the server there answers a GET of this path with a status from 200 to 399, as seen from its network
    #[arg(long, value_name = "[ADDRESS:]PORT/PATH", value_parser = http)]
    health_http: Option<Http>,
}

/// Both, and when they are asked.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Whether it is ready and healthy (a command is given word by word: --health-exec WORD --health-exec WORD ..)"
)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    ready: ReadyArgs,
    /// Not ready this long after its start, it is ended, and that is a failure [60s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "ready")]
    ready_timeout: Option<Duration>,
    /// How long after an attempt has failed the next one begins [250ms]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "ready")]
    ready_interval: Option<Duration>,
    /// How long one attempt may take [1s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "ready")]
    ready_attempt: Option<Duration>,
    /// So much more time it may ask for, all in all, by EXTEND_TIMEOUT_USEC of sd_notify(3) [none]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "ready")]
    ready_extend: Option<Duration>,
    /// It says that it is alive (WATCHDOG=1 by sd_notify(3)) at least this often, and is ended when it does not
    #[arg(long, value_name = "TIME", value_parser = span)]
    watchdog: Option<Duration>,
    #[command(flatten)]
    health: HealthArgs,
    /// How long after an attempt the next one begins [10s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "health")]
    health_interval: Option<Duration>,
    /// How long one attempt may take; what takes longer has failed [1s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "health")]
    health_timeout: Option<Duration>,
    /// So many failures in a row make it unhealthy [3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "health")]
    health_failures: Option<u32>,
    /// So many successes in a row make it healthy again [1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "health")]
    health_successes: Option<u32>,
    /// For so long after it was ready failures do not count, until the first success [0s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "health")]
    health_grace: Option<Duration>,
    /// What follows when it is unhealthy: restart it whatever its policy; stop it, as failed for good; or only report it [restart]
    #[arg(long, value_enum, requires = "health")]
    on_unhealthy: Option<OnUnhealthy>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnUnhealthy {
    Report,
    Restart,
    Stop,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let found = match port(text) {
        Some(port) => Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        None => text.parse().ok().filter(|address: &SocketAddr| address.port() > 0),
    };
    found.ok_or_else(|| format!("{text:?} is nowhere: write 8080, 127.0.0.1:8080 or [::1]:8080"))
}

fn http(text: &str) -> Result<Http, String> {
    let form = || format!("{text:?} is no page: write 8080/healthz or 127.0.0.1:8080/healthz");
    let (place, path) = text.split_once('/').ok_or_else(form)?;
    let place = address(place).map_err(|_| form())?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{text:?}: a path has neither blanks nor letters that are not ASCII: write them as %20"));
    }
    Ok(Http::get(place.port(), format!("/{path}")).address(place.ip()))
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("nothing happens in no time".into()),
        span => Ok(span),
    }
}

/// What the library looks for in a line.
fn line(text: &str) -> Result<String, String> {
    match text {
        "" => Err("every line holds the empty text".into()),
        text if text.contains('\n') => Err("no line holds an end of line".into()),
        text if text.len() > 1024 => Err("this is longer than 1,024 bytes".into()),
        text => Ok(text.to_owned()),
    }
}

fn word(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err("no word of a command holds a zero byte".into()) } else { Ok(text.to_owned()) }
}

/// A list of words that begins with nothing.
pub(super) fn no_command<W: AsRef<OsStr>>(key: &'static str, words: &[W]) -> Option<(&'static str, &'static str)> {
    let empty = words.first().is_some_and(|word| word.as_ref().is_empty());
    empty.then_some((key, "there is no command"))
}

impl ProbeArgs {
    /// What of it cannot be: a key, and why.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        let timeout = self.ready_timeout.unwrap_or(READY_TIMEOUT);
        match self.ready.ready_after {
            Some(after) if after >= timeout => Some(("ready-after", "ready-timeout is over before this is")),
            _ => no_command("ready-exec", &self.ready.ready_exec)
                .or_else(|| no_command("health-exec", &self.health.health_exec)),
        }
    }

    /// It is looked for in what the command writes.
    pub(crate) fn reads_lines(&self) -> bool {
        self.ready.ready_line.is_some()
    }

    /// The command with all that is asked about it.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let command = match self.readiness() {
            Some(readiness) => command.ready_when(readiness),
            None => command,
        };
        let command = match self.health() {
            Some(health) => command.healthy_while(health),
            None => command,
        };
        match self.watchdog {
            Some(within) => command.watchdog(within),
            None => command,
        }
    }

    fn readiness(&self) -> Option<Readiness> {
        let mut readiness = Readiness::new(self.ready.probe()?);
        if let Some(time) = self.ready_timeout {
            readiness = readiness.timeout(time);
        }
        if let Some(time) = self.ready_interval {
            readiness = readiness.interval(time);
        }
        if let Some(time) = self.ready_extend {
            readiness = readiness.extendable(time);
        }
        Some(match self.ready_attempt {
            Some(time) => readiness.attempt_timeout(time),
            None => readiness,
        })
    }

    fn health(&self) -> Option<Health> {
        let mut health = Health::new(self.health.probe()?);
        if let Some(time) = self.health_interval {
            health = health.interval(time);
        }
        if let Some(time) = self.health_timeout {
            health = health.timeout(time);
        }
        if let Some(count) = self.health_failures {
            health = health.failures(count);
        }
        if let Some(count) = self.health_successes {
            health = health.successes(count);
        }
        if let Some(time) = self.health_grace {
            health = health.grace(time);
        }
        Some(match self.on_unhealthy {
            Some(OnUnhealthy::Report) => health.on_unhealthy(orangery::OnUnhealthy::Report),
            Some(OnUnhealthy::Restart) => health.on_unhealthy(orangery::OnUnhealthy::Restart),
            Some(OnUnhealthy::Stop) => health.on_unhealthy(orangery::OnUnhealthy::Stop),
            None => health,
        })
    }
}

impl ReadyArgs {
    fn probe(&self) -> Option<Probe> {
        let Self { ready_exec, ready_tcp, ready_http, ready_notify, ready_fd, ready_line, ready_after } = self;
        // There is one at most.
        [
            exec(ready_exec),
            ready_tcp.map(tcp),
            ready_http.clone().map(Probe::from),
            ready_notify.then(Probe::notify),
            ready_fd.then(Probe::descriptor),
            ready_line.clone().map(Probe::line),
            ready_after.map(Probe::delay),
        ]
        .into_iter()
        .find_map(|probe| probe)
    }
}

impl HealthArgs {
    fn probe(&self) -> Option<Probe> {
        let http = || self.health_http.clone().map(Probe::from);
        exec(&self.health_exec).or_else(|| self.health_tcp.map(tcp)).or_else(http)
    }
}

fn exec(words: &[String]) -> Option<Probe> {
    (!words.is_empty()).then(|| Probe::exec(words.to_vec()))
}

fn tcp(address: SocketAddr) -> Probe {
    Probe::tcp_at(address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_connection() {
        for (text, expected) in [("8080", "127.0.0.1:8080"), ("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:80", "[::1]:80")] {
            assert_eq!(address(text).map(|address| address.to_string()), Ok(expected.to_owned()));
        }
        for text in ["", "0", "65536", "localhost:80", "10.0.0.1", "10.0.0.1:", "::1:80", "[::1]", "-1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
    #[test]
    fn pages() {
        let local = Http::get(80, "/");
        assert_eq!(http("80/"), Ok(local.clone()));
        assert_eq!(http("[::1]:80/"), Ok(local.address(std::net::Ipv6Addr::LOCALHOST)));
        assert_eq!(http("8080/a/b?c"), Ok(Http::get(8080, "/a/b?c")));
        for text in ["", "80", "/", "http://localhost/", "80/a b", "80/\u{e9}", "0/"] {
            assert!(http(text).is_err(), "{text}");
        }
    }
}
