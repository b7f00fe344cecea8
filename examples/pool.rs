//! A service that answers each request from a sandbox that was made before it came.
//!
//! `cargo run --release --example pool [ADDRESS]`
//!
//! ```text
//! curl --data-binary 'echo $((6 * 7))' localhost:3000/      what the script prints
//! curl localhost:3000/figures                               how many are ready, leased, made; how long requests have waited
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use orangery::{Error, ErrorKind, Pool, Sandbox, Supervisor};
use serde_json::{Value, json};

/// How long a script may run and how much it may print.
const TIME: Duration = Duration::from_secs(5);
const OUTPUT: u64 = 1 << 20;
/// Requests whose times are remembered.
const REMEMBERED: usize = 1000;

struct Service {
    pool: Pool,
    /// How long taking a sandbox took, in microseconds, of the last requests.
    waits: Mutex<Vec<u64>>,
}

struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            // Too many wait already: who comes again in a moment may be luckier.
            ErrorKind::Exhausted | ErrorKind::ShutDown | ErrorKind::State => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}

/// A client that goes drops this future, and with it the sandbox.
async fn run(State(service): State<Arc<Service>>, script: String) -> Result<Vec<u8>, Refused> {
    let asked = Instant::now();
    let sandbox = service.pool.take().await?;
    service.took(asked.elapsed());
    let command = sandbox.command("sh").args(["-c", &script]).timeout(TIME);
    let output = command.run().await?;
    let mut answer = output.stdout.to_vec();
    if !output.report.success() {
        answer.extend(format!("\n{:?}, {:?}\n", output.report.exit, output.report.cause).into_bytes());
    }
    Ok(answer)
}

impl Service {
    fn took(&self, time: Duration) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.len() == REMEMBERED {
            waits.remove(0);
        }
        waits.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn figures(&self) -> Value {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits.sort_unstable();
        let part = |percent: usize| waits.get(waits.len() * percent / 100);
        json!({"pool": self.pool.inspect(), "take_us": {"p50": part(50), "p99": part(99)}})
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let sandbox = Sandbox::builder().id("scripts").output(OUTPUT).build()?;
    let pool = Pool::builder(&sandbox).idle(4).most(32).waiting(100).build(&supervisor)?;
    pool.filled().await?;
    let service = Arc::new(Service { pool, waits: Mutex::default() });
    let for_figures = Arc::clone(&service);
    let figures = get(move || std::future::ready(for_figures.figures().to_string()));
    let router = Router::new().route("/", post(run)).route("/figures", figures).with_state(Arc::clone(&service));
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router).with_graceful_shutdown(interrupted).await?;
    eprintln!("{}", service.figures());
    service.pool.close().await;
    supervisor.shutdown().await;
    Ok(())
}
